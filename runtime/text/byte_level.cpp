#include "runtime/text/byte_level.h"

#include <cstdint>

#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

struct Alphabet {
    std::array<std::string, 256> character;
    std::array<int16_t, 0x144> byte;  // by code point, -1 where none
    Alphabet() {
        byte.fill(-1);
        char32_t next = 0x100;
        for (unsigned b = 0; b < 256; ++b) {
            const bool visible = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
            const char32_t code = visible ? b : next++;
            utf8_append(character[b], code);
            byte[code] = int16_t(b);
        }
    }
};

const Alphabet& alphabet() {
    static const Alphabet a;
    return a;
}

}  // namespace

const std::array<std::string, 256>& byte_level_alphabet() { return alphabet().character; }

std::string to_byte_level(std::string_view bytes) {
    const auto& characters = byte_level_alphabet();
    std::string out;
    out.reserve(bytes.size() * 2);
    for (char b : bytes) out += characters[static_cast<unsigned char>(b)];
    return out;
}

std::optional<std::string> from_byte_level(std::string_view text) {
    const auto& bytes = alphabet().byte;
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
        const Utf8Char c = utf8_at(text, i);
        if (!c.valid || c.code >= bytes.size() || bytes[c.code] < 0) return std::nullopt;
        out += char(bytes[c.code]);
        i += c.length;
    }
    return out;
}

}  // namespace vkqat

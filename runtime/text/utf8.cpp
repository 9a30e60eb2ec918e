#include "runtime/text/utf8.h"

#include <utility>

namespace vkqat {

Utf8Char utf8_at(std::string_view text, size_t position) {
    auto byte = [&](size_t i) { return static_cast<unsigned char>(text[position + i]); };
    const size_t left = text.size() - position;
    const unsigned first = byte(0);
    if (first < 0x80) return {char32_t(first), 1, true, false};
    // Length and the range of the second byte (Unicode 3.9, table 3-7); later bytes are 80..BF.
    unsigned length = 0, low = 0x80, high = 0xBF;
    if (first >= 0xC2 && first <= 0xDF) length = 2;
    if (first >= 0xE0 && first <= 0xEF) length = 3;
    if (first >= 0xF0 && first <= 0xF4) length = 4;
    if (length == 0) return {0xFFFD, 1, false, false};
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
    char32_t code = first & (0x7Fu >> length);
    for (unsigned i = 1; i < length; ++i) {
        if (i >= left) return {0xFFFD, i, false, true};
        if (byte(i) < low || byte(i) > high) return {0xFFFD, i, false, false};
        code = (code << 6) | (byte(i) & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    return {code, length, true, false};
}

bool utf8_valid(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        Utf8Char c = utf8_at(text, i);
        if (!c.valid) return false;
        i += c.length;
    }
    return true;
}

std::string utf8_lossy(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
        Utf8Char c = utf8_at(text, i);
        out += c.valid ? text.substr(i, c.length) : std::string_view("\xEF\xBF\xBD");
        i += c.length;
    }
    return out;
}

void utf8_append(std::string& text, char32_t code) {
    if (code < 0x80) {
        text += char(code);
    } else if (code < 0x800) {
        text += {char(0xC0 | (code >> 6)), char(0x80 | (code & 0x3F))};
    } else if (code < 0x10000) {
        text += {char(0xE0 | (code >> 12)), char(0x80 | ((code >> 6) & 0x3F)), char(0x80 | (code & 0x3F))};
    } else {
        text += {char(0xF0 | (code >> 18)), char(0x80 | ((code >> 12) & 0x3F)), char(0x80 | ((code >> 6) & 0x3F)),
                 char(0x80 | (code & 0x3F))};
    }
}

std::string Utf8Stream::push(std::string_view bytes) {
    std::string text = std::move(held_);
    text += bytes;
    held_.clear();
    for (size_t i = 0; i < text.size();) {
        Utf8Char c = utf8_at(text, i);
        if (c.cut) {
            held_ = text.substr(i);
            text.resize(i);
            break;
        }
        i += c.length;
    }
    return utf8_lossy(text);
}

std::string Utf8Stream::finish() { return utf8_lossy(std::exchange(held_, {})); }

}  // namespace vkqat

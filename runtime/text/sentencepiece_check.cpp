#include "runtime/text/sentencepiece_check.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

// Protocol-buffer wire format: calls each(field, integer, bytes) for every field; `bytes` is empty for integers.
template <class Each>
void read_message(std::string_view message, Each&& each) {
    size_t i = 0;
    auto varint = [&] {
        uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            if (i >= message.size()) fail("truncated SentencePiece model");
            const auto byte = static_cast<unsigned char>(message[i++]);
            value |= uint64_t(byte & 0x7F) << shift;
            if (byte < 0x80) return value;
        }
        fail("malformed SentencePiece model: an integer of more than 64 bits");
    };
    while (i < message.size()) {
        const uint64_t tag = varint();
        uint64_t value = 0, length = 0;
        switch (tag & 7) {
            case 0: value = varint(); break;
            case 1: length = 8; break;
            case 2: length = varint(); break;
            case 5: length = 4; break;
            default: fail("not a SentencePiece model, or a damaged one: field of kind {} at byte {}", tag & 7, i);
        }
        if (length > message.size() - i)
            fail("truncated SentencePiece model: a field of {} bytes where {} are left", length, message.size() - i);
        each(tag >> 3, value, message.substr(i, length));
        i += length;
    }
}

uint32_t little_endian(std::string_view bytes, size_t at) {
    uint32_t value = 0;
    for (size_t k = 4; k-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + k]);
    return value;
}

// The layout: size of the trie in bytes, the trie (a double array of Darts-clone, 4 bytes per unit), replacements, each ended
// by a zero. Every unit that can be walked over must lead to units inside the array, for any byte that follows.
void check_character_map(std::string_view map) {
    if (map.empty()) return;
    if (map.size() < 4) fail("precompiled_charsmap of {} bytes is too short", map.size());
    const size_t trie_bytes = little_endian(map, 0);
    if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes >= map.size() - 4)
        fail("precompiled_charsmap: a trie of {} bytes in a map of {}", trie_bytes, map.size());
    const std::string_view trie = map.substr(4, trie_bytes), replacements = map.substr(4 + trie_bytes);
    if (replacements.back() != '\0') fail("precompiled_charsmap: the replacements do not end with a zero");
    const size_t units = trie_bytes / 4;
    for (size_t i = 0; i < units; ++i) {
        const uint32_t unit = little_endian(trie, 4 * i);
        if (unit >> 31 && i > 0) continue;  // a leaf: reached as a value only
        const size_t next = i ^ (size_t(unit >> 10) << ((unit & (1u << 9)) >> 6));
        if ((next | 0xFF) >= units) fail("precompiled_charsmap: unit {} leads to {} of {}", i, next, units);
        const bool has_leaf = (unit >> 8) & 1;
        if (has_leaf && (little_endian(trie, 4 * next) & 0x7FFFFFFFu) >= replacements.size())
            fail("precompiled_charsmap: unit {} names a replacement outside the map", i);
    }
}

}  // namespace

SentencePieceSettings check_sentencepiece(std::string_view model) {
    SentencePieceSettings settings;
    size_t pieces = 0;
    read_message(model, [&](uint64_t field, uint64_t, std::string_view bytes) {
        if (field == 1) {  // a piece: 1 text, 2 score, 3 type
            ++pieces;
            read_message(bytes, [&](uint64_t f, uint64_t, std::string_view value) {
                if (f == 1 && (value.empty() || value.size() > 4096)) fail("piece {} has {} bytes", pieces - 1, value.size());
                if (f != 2 || value.size() != 4) return;
                const uint32_t bits = little_endian(value, 0);
                float score = 0;
                std::memcpy(&score, &bits, sizeof score);
                if (!std::isfinite(score)) fail("the score of piece {} is not finite", pieces - 1);
            });
        } else if (field == 2) {  // trainer_spec
            read_message(bytes, [&](uint64_t f, uint64_t value, std::string_view text) {
                if (f == 3) settings.model_type = value <= 4 ? int(value) : 0;
                if (f == 24) settings.treat_whitespace_as_suffix = value != 0;
                if (f == 44) settings.unk_surface = text;
            });
        } else if (field == 3 || field == 5) {  // normalizer_spec, denormalizer_spec
            read_message(bytes, [&](uint64_t f, uint64_t value, std::string_view map) {
                if (f == 2) check_character_map(map);
                if (field == 3 && f == 3) settings.add_dummy_prefix = value != 0;
                if (field == 3 && f == 4) settings.remove_extra_whitespaces = value != 0;
            });
        }
    });
    if (pieces == 0) fail("not a SentencePiece model: it has no pieces");
    if (pieces > size_t(1) << 22) fail("a SentencePiece model of {} pieces is too large", pieces);
    if (settings.model_type < 1 || settings.model_type > 4) fail("unknown kind of SentencePiece model");
    return settings;
}

}  // namespace vkqat

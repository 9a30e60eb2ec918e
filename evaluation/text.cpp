#include "evaluation/text.h"

#include "runtime/text/utf8.h"

namespace vkqat {

bool is_white_space(char32_t c) {
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t trailing_white_space(std::string_view text) {
    size_t end = text.size();
    while (end > 0) {
        size_t begin = end - 1;
        while (begin > 0 && (uint8_t(text[begin]) & 0xc0) == 0x80) begin--;
        if (!is_white_space(utf8_at(text, begin).code)) break;
        end = begin;
    }
    return text.size() - end;
}

std::string_view strip(std::string_view text) {
    text.remove_suffix(trailing_white_space(text));
    while (!text.empty()) {
        Utf8Char c = utf8_at(text, 0);
        if (!is_white_space(c.code)) break;
        text.remove_prefix(c.length);
    }
    return text;
}

size_t count_characters(std::string_view text) {
    size_t count = 0;
    for (char c : text) count += (uint8_t(c) & 0xc0) != 0x80;
    return count;
}

std::string capitalize(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        Utf8Char c = utf8_at(text, at);
        const bool first = at == 0;
        at += c.length;
        char32_t code = c.code;
        const bool upper = (code >= 'A' && code <= 'Z') || (code >= 0xc0 && code <= 0xde && code != 0xd7);
        const bool lower = (code >= 'a' && code <= 'z') || (code >= 0xe0 && code <= 0xfe && code != 0xf7);
        if (first && lower) code -= 32;
        if (!first && upper) code += 32;
        utf8_append(out, code);
    }
    return out;
}

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
    for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) text.replace(at, from.size(), to);
    return text;
}

}  // namespace vkqat

#include "runtime/text/added_tokens.h"

#include <algorithm>

#include "runtime/support/error.h"
#include "runtime/text/regex.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

constexpr size_t max_token_bytes = 512;  // bounds the work per position

bool is_space(char32_t c) {  // the Unicode property White_Space
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t last_character(std::string_view text) {  // where it begins; text is not empty
    size_t i = text.size() - 1;
    while (i > 0 && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) --i;
    return i;
}

bool is_word_character(std::string_view character) {
    static const Regex word("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]");  // \w of Rust's regex crate
    return !word.find_all(character).empty();
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), starts_(256) {
    std::erase_if(tokens_, [](const AddedToken& t) { return t.content.empty(); });
    for (const AddedToken& t : tokens_) {
        if (t.content.size() > max_token_bytes)
            fail("added token {} has {} bytes; at most {} are supported", t.id, t.content.size(), max_token_bytes);
        starts_[static_cast<unsigned char>(t.content[0])] = true;
    }
    std::sort(tokens_.begin(), tokens_.end(), [](const auto& a, const auto& b) { return a.content < b.content; });
}

const AddedToken* AddedTokens::longest_at(std::string_view text, size_t position) const {
    if (!starts_[static_cast<unsigned char>(text[position])]) return nullptr;
    // Narrows the tokens, which are sorted, to those that agree with the text so far.
    auto first = tokens_.begin(), last = tokens_.end();
    const AddedToken* longest = nullptr;
    for (size_t depth = 0; first != last && position + depth < text.size(); ++depth) {
        const auto byte = static_cast<unsigned char>(text[position + depth]);
        auto at = [&](const AddedToken& t) { return static_cast<unsigned char>(t.content[depth]); };
        first = std::partition_point(first, last, [&](const AddedToken& t) { return t.content.size() <= depth || at(t) < byte; });
        last = std::partition_point(first, last, [&](const AddedToken& t) { return at(t) == byte; });
        if (first != last && first->content.size() == depth + 1) longest = &*first;
    }
    return longest;
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text, bool parse_special,
                                                  std::span<const size_t> literal) const {
    std::vector<Part> parts;
    size_t done = 0;
    for (size_t i = 0; i < text.size();) {
        const AddedToken* token = longest_at(text, i);
        if (!token) {
            ++i;
            continue;
        }
        size_t begin = i, end = i + token->content.size();
        if (token->special && !literal.empty()) {
            const auto inside = std::upper_bound(literal.begin(), literal.end(), begin);
            if (inside != literal.end() && *inside < end) {
                ++i;
                continue;
            }
        }
        i = end;
        if (token->special && !parse_special) continue;
        if (token->single_word) {
            const bool word_before = begin > 0 && is_word_character(text.substr(last_character(text.substr(0, begin)),
                                                                                begin - last_character(text.substr(0, begin))));
            const bool word_after = end < text.size() && is_word_character(text.substr(end, utf8_at(text, end).length));
            if (word_before || word_after) continue;
        }
        if (begin < done) continue;  // lies in the white space that the token before took
        while (token->lstrip && begin > done) {
            const size_t before = done + last_character(text.substr(done, begin - done));
            if (!is_space(utf8_at(text, before).code)) break;
            begin = before;
        }
        while (token->rstrip && end < text.size()) {
            const Utf8Char after = utf8_at(text, end);
            if (!is_space(after.code)) break;
            end += after.length;
        }
        if (begin > done) parts.push_back({text.substr(done, begin - done), -1});
        parts.push_back({text.substr(begin, end - begin), token->id});
        done = end;
        i = std::max(i, done);
    }
    if (done < text.size()) parts.push_back({text.substr(done), -1});
    return parts;
}

}  // namespace vkqat

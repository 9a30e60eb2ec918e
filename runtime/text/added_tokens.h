// Tokens that are cut out of a text before it is tokenized: special tokens and those that users added.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

using TokenId = int32_t;

struct AddedToken {
    TokenId id = 0;
    std::string content;       // what is looked for
    bool special = false;      // found only when special tokens are to be parsed
    bool lstrip = false;       // takes the white space before it
    bool rstrip = false;       // takes the white space after it
    bool single_word = false;  // only where no word character touches it
};

class AddedTokens {
public:
    explicit AddedTokens(std::vector<AddedToken> tokens = {});
    bool empty() const { return tokens_.empty(); }

    struct Part {
        std::string_view text;
        TokenId token;  // -1: plain text
    };
    // Cuts `text` into plain parts and tokens, from left to right, the longest token first (Hugging Face's order). `literal`:
    // offsets, ascending; a special token that begins before one and ends behind it is text.
    std::vector<Part> split(std::string_view text, bool parse_special, std::span<const size_t> literal = {}) const;

private:
    const AddedToken* longest_at(std::string_view text, size_t position) const;
    std::vector<AddedToken> tokens_;  // sorted by content
    std::vector<bool> starts_;        // by first byte
};

}  // namespace vkqat

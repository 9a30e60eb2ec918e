// Byte-pair encoding: the vocabulary, the merges, and the merging of one word.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace vkqat {

using TokenId = int32_t;

struct BpeMerge {
    TokenId left, right;
    int32_t rank;    // the lower, the earlier; where equal the leftmost pair comes first
    TokenId result;  // the token that is left's and right's text
};

struct BpeOptions {
    std::optional<TokenId> unknown;  // for a character that is no token; without it such a character is dropped
    bool fuse_unknown = false;       // neighbouring unknown characters as one token
    bool byte_fallback = false;      // a character that is no token as its bytes' tokens <0xNN>
    bool ignore_merges = false;      // a word that is a token is that token, whatever the merges would give
};

class BpeModel {
public:
    using Vocabulary = std::unordered_map<std::string, TokenId>;
    BpeModel(const Vocabulary& vocabulary, std::span<const BpeMerge> merges, const BpeOptions& options);

    // Appends the ids of `word` (valid UTF-8, in the vocabulary's alphabet). n log n for a word of n characters. The order of
    // merges is that of Hugging Face's tokenizers: lowest rank first, then from the left.
    void encode(std::string_view word, std::vector<TokenId>& ids) const;

private:
    struct Hash {
        using is_transparent = void;
        size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
    };
    struct Slot {
        uint64_t pair;  // left and right
        int32_t rank;
        TokenId result;
    };
    const Slot* find_merge(TokenId left, TokenId right) const;

    std::unordered_map<std::string, TokenId, Hash, std::equal_to<>> vocabulary_;
    std::vector<TokenId> ascii_;  // id of each one-byte character, -1 where none
    std::vector<TokenId> bytes_;  // id of <0xNN>, -1 where none; empty without byte_fallback
    std::vector<Slot> slots_;     // open addressing, a power of two
    BpeOptions options_;
};

}  // namespace vkqat

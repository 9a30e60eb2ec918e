// Meta's tokenizer.model of Llama 3: one token per line, its bytes in base64, a space, its rank (which is its id).
#include <algorithm>
#include <array>
#include <charconv>

#include "runtime/support/error.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/tokenizer_parts.h"
#include "runtime/text/word_cache.h"

namespace vkqat {
namespace {

constexpr std::string_view base64_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr size_t max_token_bytes = 256;
constexpr size_t special_tokens = 256;

std::string decode_base64(std::string_view text, size_t line) {
    const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
    if (text.empty() || text.size() % 4 != 0) fail("line {}: expected base64, found {} characters", line, text.size());
    std::string out;
    uint32_t bits = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        const size_t value = i < text.size() - padding ? base64_alphabet.find(text[i]) : 0;
        if (value == std::string_view::npos) fail("line {}: expected base64, found the character {:?}", line, text.substr(i, 1));
        bits = bits << 6 | uint32_t(value);
        if (i % 4 == 3) out += {char(bits >> 16), char(bits >> 8), char(bits)};
    }
    out.resize(out.size() - padding);
    return out;
}

// The names that Llama 3.1 to 3.3 give the ids behind the vocabulary; those of Llama 3.0 are the same where it has any.
std::vector<std::string> llama3_special_tokens() {
    std::vector<std::string> names = {"<|begin_of_text|>",
                                      "<|end_of_text|>",
                                      "<|reserved_special_token_0|>",
                                      "<|reserved_special_token_1|>",
                                      "<|finetune_right_pad_id|>",
                                      "<|reserved_special_token_2|>",
                                      "<|start_header_id|>",
                                      "<|end_header_id|>",
                                      "<|eom_id|>",
                                      "<|eot_id|>",
                                      "<|python_tag|>"};
    for (size_t i = 3; names.size() < special_tokens; ++i) names.push_back(fmt::format("<|reserved_special_token_{}|>", i));
    return names;
}

class TiktokenBackend : public TokenizerBackend {
public:
    TiktokenBackend(BpeModel model, AddedTokens special, const std::vector<std::string>& tokens)
        : model_(std::move(model)), special_(std::move(special)), tokens_(tokens) {
        steps_.push_back(SplitStep{Regex(llama3_pattern)});
    }

    void encode(std::string_view text, const EncodeOptions& options, std::vector<TokenId>& ids) const override {
        for (const auto& part : special_.split(text, options.parse_special, options.literal)) {
            if (part.token >= 0) {
                ids.push_back(part.token);
                continue;
            }
            std::deque<std::string> storage;
            for (std::string_view word : pretokenize(steps_, part.text, false, storage))
                cache_.get(word, ids, [&](std::string_view w, auto& out) { model_.encode(to_byte_level(w), out); });
        }
    }

    std::string piece(TokenId id) const override { return from_byte_level(tokens_[size_t(id)]).value(); }

private:
    BpeModel model_;
    AddedTokens special_;
    std::vector<PretokenizeStep> steps_;
    const std::vector<std::string>& tokens_;  // of the Parts that own this
    mutable WordCache cache_;
};

}  // namespace

bool looks_like_tiktoken(std::string_view bytes) {
    const size_t space = bytes.substr(0, 1024).find(' ');
    if (space == 0 || space == std::string_view::npos) return false;
    const std::string_view rest = bytes.substr(space + 1, 20);
    return bytes.substr(0, space).find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") ==
               std::string_view::npos &&
           rest.find_first_of("0123456789") == 0;
}

TokenizerParts parse_tiktoken(std::string_view text, const TokenizerConfig& config) {
    auto parts = std::make_shared<Tokenizer::Parts>();
    BpeModel::Vocabulary vocabulary;
    size_t line = 0;
    while (!text.empty()) {
        ++line;
        const std::string_view row = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), row.size() + 1));
        if (row.empty()) continue;
        const size_t space = std::min(row.find(' '), row.size());
        const std::string bytes = decode_base64(row.substr(0, space), line);
        TokenId rank = -1;
        const char *first = row.data() + std::min(space + 1, row.size()), *last = row.data() + row.size();
        auto [end, error] = std::from_chars(first, last, rank);
        if (error != std::errc() || end != last || size_t(rank) != parts->tokens.size())
            fail("line {}: expected the rank {}, found {:?}", line, parts->tokens.size(), std::string_view(first, last));
        if (bytes.size() > max_token_bytes) fail("line {}: a token of {} bytes is too long", line, bytes.size());
        std::string token = to_byte_level(bytes);
        if (!vocabulary.emplace(token, rank).second) fail("line {}: the token stands there twice", line);
        parts->tokens.push_back(std::move(token));
    }
    for (const std::string& byte : byte_level_alphabet())
        if (!vocabulary.contains(byte)) fail("the vocabulary lacks the byte that is written {}", byte);

    // Two neighbours are merged where their bytes together are a token: every way to cut a token in two is a merge.
    std::vector<BpeMerge> merges;
    for (const auto& [token, id] : vocabulary) {
        for (size_t cut = 1; cut < token.size(); ++cut) {
            if ((static_cast<unsigned char>(token[cut]) & 0xC0) == 0x80) continue;
            auto left = vocabulary.find(token.substr(0, cut));
            if (left == vocabulary.end()) continue;
            auto right = vocabulary.find(token.substr(cut));
            if (right != vocabulary.end()) merges.push_back({left->second, right->second, id, id});
        }
    }
    BpeOptions options;
    options.ignore_merges = true;
    BpeModel model(vocabulary, merges, options);

    std::vector<AddedToken> special;
    parts->special.resize(parts->tokens.size());
    for (std::string& name : llama3_special_tokens()) {
        special.push_back({TokenId(parts->tokens.size()), name, true});
        parts->tokens.push_back(std::move(name));
        parts->special.push_back(true);
    }
    for (size_t i = 0; i < parts->tokens.size(); ++i) parts->ids.emplace(parts->tokens[i], TokenId(i));
    for (const auto& t : config.added)
        if (size_t(t.id) >= parts->tokens.size() || parts->tokens[size_t(t.id)] != t.content)
            fail("tokenizer_config.json: added token {} is not the {} of Llama 3's tokenizer.model", t.content, t.id);
    parts->kind = "byte-level BPE (tiktoken)";
    parts->backend = std::make_unique<TiktokenBackend>(std::move(model), AddedTokens(std::move(special)), parts->tokens);
    parts->add_bos = config.add_bos_token.value_or(true);
    name_special_tokens(*parts, config);
    return parts;
}

}  // namespace vkqat

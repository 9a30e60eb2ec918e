// What the loaders of the different formats hand to Tokenizer. Private to this room.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace vkqat {

class GgufFile;

class TokenizerBackend {
public:
    virtual ~TokenizerBackend() = default;
    // Appends the ids of `text`, which is valid UTF-8.
    virtual void encode(std::string_view text, const EncodeOptions& options, std::vector<TokenId>& ids) const = 0;
    // The bytes that the token stands for inside a text.
    virtual std::string piece(TokenId id) const = 0;
};

struct Tokenizer::Parts {
    std::string kind;
    std::vector<std::string> tokens;  // by id; empty where an id is not used
    std::unordered_map<std::string, TokenId> ids;
    std::vector<bool> special;  // by id
    std::optional<TokenId> bos, eos, pad;
    std::vector<TokenId> prefix, suffix;  // what a whole sequence begins and ends with
    bool add_bos = false;                 // by default
    std::string strip;                    // what decode() removes at the beginning of a text ...
    size_t strip_count = 0;               // ... at most so often
    std::unique_ptr<TokenizerBackend> backend;
};

// tokenizer_config.json, as far as it matters here. Missing file: all empty.
struct TokenizerConfig {
    struct Added {
        TokenId id;
        std::string content;
        bool special, lstrip, rstrip, single_word, normalized;
    };
    std::optional<std::string> bos_token, eos_token, pad_token;
    std::optional<bool> add_bos_token;
    std::vector<Added> added;
};
TokenizerConfig read_tokenizer_config(const std::filesystem::path& path);

// Sets bos, eos and pad from the configuration, else from the names that are in common use. Error for a token that is unknown.
void name_special_tokens(Tokenizer::Parts& parts, const TokenizerConfig& config);

using TokenizerParts = std::shared_ptr<Tokenizer::Parts>;
TokenizerParts parse_tokenizer_json(std::string_view text, const TokenizerConfig& config);
TokenizerParts make_json_tokenizer(const nlohmann::json& json, const TokenizerConfig& config);  // of tokenizer.json
TokenizerParts parse_sentencepiece(std::string_view bytes, const TokenizerConfig& config);
TokenizerParts parse_tiktoken(std::string_view text, const TokenizerConfig& config);
bool looks_like_tiktoken(std::string_view bytes);
TokenizerParts make_gguf_tokenizer(const GgufFile& file);

}  // namespace vkqat

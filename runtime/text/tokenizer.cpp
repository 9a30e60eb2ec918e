#include "runtime/text/tokenizer.h"

#include <algorithm>

#include "runtime/formats/gguf.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "runtime/text/json_input.h"
#include "runtime/text/tokenizer_parts.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace fs = std::filesystem;

namespace {

constexpr size_t max_file_bytes = size_t(256) << 20;

size_t checked(TokenId id, size_t size) {
    if (id < 0 || size_t(id) >= size) fail("token id {} is outside the vocabulary of {}", id, size);
    return size_t(id);
}

// The file of a directory that holds the tokenizer.
fs::path find_tokenizer(const fs::path& directory) {
    for (const char* name : {"tokenizer.json", "tokenizer.model"})
        if (std::error_code error; fs::exists(directory / name, error)) return directory / name;
    std::vector<fs::path> models;
    std::error_code error;
    for (auto entry = fs::directory_iterator(directory, error); !error && entry != fs::directory_iterator();
         entry.increment(error))
        if (entry->path().extension() == ".model") models.push_back(entry->path());
    if (error) fail("{}: cannot list the folder: {}", directory.string(), error.message());
    if (models.size() == 1) return models[0];
    fail("{}: no tokenizer: expected tokenizer.json, tokenizer.model or one *.model, found {} of the last", directory.string(),
         models.size());
}

// X.tokenizer.json and X.tokenizer.model go with X.tokenizer_config.json, others with tokenizer_config.json of the folder.
fs::path config_of(const fs::path& file) {
    std::string name = file.filename().string();
    for (std::string_view end : {"tokenizer.json", "tokenizer.model"})
        if (name.ends_with(end)) return file.parent_path() / (name.substr(0, name.size() - end.size()) + "tokenizer_config.json");
    return file.parent_path() / "tokenizer_config.json";
}

}  // namespace

TokenizerConfig read_tokenizer_config(const fs::path& path) {
    TokenizerConfig config;
    if (std::error_code error; !fs::exists(path, error)) return config;
    return in_context(path.string(), [&] {
        const nlohmann::json json = parse_json(read_text_file(path, max_file_bytes));
        // "<s>", or an object with "content"
        auto token = [&](const char* key) -> std::optional<std::string> {
            const auto& value = json_get(json, key);
            if (value.is_null()) return std::nullopt;
            return value.is_object() ? json_string(value, "content") : json_string(json, key);
        };
        config.bos_token = token("bos_token");
        config.eos_token = token("eos_token");
        config.pad_token = token("pad_token");
        if (!json_get(json, "add_bos_token").is_null()) config.add_bos_token = json_bool(json, "add_bos_token", false);
        const auto& added = json_get(json, "added_tokens_decoder");
        if (added.is_null()) return config;
        if (!added.is_object()) fail("\"added_tokens_decoder\": expected an object, found {}", added.type_name());
        for (const auto& [key, e] : added.items()) {
            const bool digits = !key.empty() && key.size() <= 8 && key.find_first_not_of("0123456789") == std::string::npos;
            if (!digits) fail("\"added_tokens_decoder\": expected ids as keys, found {}", key);
            const bool special = json_bool(e, "special", false);
            config.added.push_back({TokenId(std::stol(key)), json_string(e, "content"), special, json_bool(e, "lstrip", false),
                                    json_bool(e, "rstrip", false), json_bool(e, "single_word", false),
                                    json_bool(e, "normalized", !special)});
        }
        std::sort(config.added.begin(), config.added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
        return config;
    });
}

void name_special_tokens(Tokenizer::Parts& parts, const TokenizerConfig& config) {
    auto name = [&](std::optional<TokenId>& id, const std::optional<std::string>& token, const char* key,
                    std::initializer_list<const char*> common) {
        if (token && !token->empty()) {
            auto found = parts.ids.find(*token);
            if (found == parts.ids.end()) fail("tokenizer_config.json: {} {} is not in the vocabulary", key, *token);
            id = found->second;
        }
        for (const char* usual : common) {
            if (id) break;
            auto found = parts.ids.find(usual);
            if (found != parts.ids.end() && parts.special[size_t(found->second)]) id = found->second;
        }
    };
    if (!parts.bos && !config.bos_token && parts.prefix.size() == 1) parts.bos = parts.prefix[0];
    name(parts.bos, config.bos_token, "bos_token", {"<|begin_of_text|>", "<s>", "<|endoftext|>"});
    name(parts.eos, config.eos_token, "eos_token", {"<|end_of_text|>", "</s>", "<|endoftext|>"});
    name(parts.pad, config.pad_token, "pad_token", {"<pad>", "<|pad|>", "<|finetune_right_pad_id|>"});
    if (parts.add_bos && parts.prefix.empty() && !parts.bos) fail("add_bos_token is set, but there is no bos_token");
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
    if (text.size() >= size_t(1) << 30) fail("a text of {} bytes is too long to tokenize at once", text.size());
    std::vector<TokenId> ids;
    if (options.add_bos.value_or(parts_->add_bos)) {
        if (!parts_->prefix.empty()) {
            ids = parts_->prefix;
        } else if (parts_->bos) {
            ids.push_back(*parts_->bos);
        } else {
            fail("a start token was asked for, but the tokenizer has none");
        }
    }
    if (utf8_valid(text)) {
        parts_->backend->encode(text, options, ids);
    } else {
        if (!options.literal.empty()) fail("a text with literal parts must be valid UTF-8");
        parts_->backend->encode(utf8_lossy(text), options, ids);
    }
    if (options.add_eos) {
        if (parts_->suffix.empty() && !parts_->eos) fail("an end token was asked for, but the tokenizer has none");
        if (parts_->suffix.empty()) {
            ids.push_back(*parts_->eos);
        } else {
            ids.insert(ids.end(), parts_->suffix.begin(), parts_->suffix.end());
        }
    }
    return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool special) const {
    std::string text;
    for (TokenId id : ids) text += decode_piece(id, special);
    size_t begin = 0;
    for (size_t i = 0; i < parts_->strip_count && !parts_->strip.empty(); ++i) {
        if (!std::string_view(text).substr(begin).starts_with(parts_->strip)) break;
        begin += parts_->strip.size();
    }
    return text.substr(begin);
}

std::string Tokenizer::decode_piece(TokenId id, bool special) const {
    if (parts_->special[checked(id, vocab_size())]) return special ? parts_->tokens[size_t(id)] : std::string();
    return parts_->backend->piece(id);
}

size_t Tokenizer::vocab_size() const { return parts_->tokens.size(); }
const std::string& Tokenizer::token(TokenId id) const { return parts_->tokens[checked(id, vocab_size())]; }
bool Tokenizer::is_special(TokenId id) const { return parts_->special[checked(id, vocab_size())]; }
std::optional<TokenId> Tokenizer::bos() const { return parts_->bos; }
std::optional<TokenId> Tokenizer::eos() const { return parts_->eos; }
std::optional<TokenId> Tokenizer::pad() const { return parts_->pad; }
const std::string& Tokenizer::kind() const { return parts_->kind; }

std::optional<TokenId> Tokenizer::id(std::string_view token) const {
    auto found = parts_->ids.find(std::string(token));
    if (found == parts_->ids.end()) return std::nullopt;
    return found->second;
}

Tokenizer load_tokenizer(const fs::path& path) {
    if (is_gguf(path)) {
        const GgufFile gguf(path);
        return in_context(path.string(), [&] { return Tokenizer(make_gguf_tokenizer(gguf)); });
    }
    std::error_code error;
    const fs::path file = fs::is_directory(path, error) ? find_tokenizer(path) : path;
    const TokenizerConfig config = read_tokenizer_config(config_of(file));
    return in_context(file.string(), [&] {
        const std::string bytes = read_text_file(file, max_file_bytes);
        if (file.extension() == ".json") return Tokenizer(parse_tokenizer_json(bytes, config));
        if (looks_like_tiktoken(bytes)) return Tokenizer(parse_tiktoken(bytes, config));
        return Tokenizer(parse_sentencepiece(bytes, config));
    });
}

}  // namespace vkqat

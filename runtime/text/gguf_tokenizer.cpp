// The tokenizer inside a GGUF file, given to the loaders of the formats that it was made from: "llama" as a SentencePiece model,
// "gpt2" as a tokenizer.json.
#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "runtime/formats/gguf.h"
#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/tokenizer_parts.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

constexpr size_t max_tokens = size_t(1) << 22, max_token_bytes = 4096;

// As in the file, and in SentencePiece's models.
enum TokenKind : int { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Vocabulary {
    std::vector<std::string> tokens;
    std::vector<int> kinds;
    TokenizerConfig config;  // start, end and padding token; whether a text begins with the first
};

bool is_byte_token(std::string_view token) {
    return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>') &&
           token.substr(3, 2).find_first_not_of("0123456789ABCDEF") == token.npos;
}

std::optional<size_t> token_id(const GgufFile& file, const char* key, size_t tokens) {
    std::optional<uint64_t> id = file.count(key);
    if (!id) return std::nullopt;
    if (*id >= tokens) fail("key '{}': {} is outside the vocabulary of {} tokens", key, *id, tokens);
    return size_t(*id);
}

Vocabulary read_vocabulary(const GgufFile& file) {
    Vocabulary v;
    const std::vector<std::string_view>* tokens = file.strings("tokenizer.ggml.tokens");
    if (!tokens || tokens->empty()) fail("the key 'tokenizer.ggml.tokens' is missing or empty");
    if (tokens->size() > max_tokens)
        fail("key 'tokenizer.ggml.tokens': {} are too many (at most {})", tokens->size(), max_tokens);
    std::optional<std::vector<int64_t>> kinds = file.integers("tokenizer.ggml.token_type");
    if (kinds && kinds->size() != tokens->size()) {
        fail("key 'tokenizer.ggml.token_type': expected one for each of {} tokens, found {}", tokens->size(), kinds->size());
    }
    for (size_t i = 0; i < tokens->size(); ++i) {
        std::string_view token = (*tokens)[i];
        if (token.size() > max_token_bytes || !utf8_valid(token)) {
            fail("key 'tokenizer.ggml.tokens': token {}: expected up to {} bytes of UTF-8, found {}: '{}'", i, max_token_bytes,
                 token.size(), printable(token, 60));
        }
        int64_t kind = kinds ? (*kinds)[i] : int64_t(is_byte_token(token) ? byte : normal);
        if (kind < normal || kind > byte) {
            fail("key 'tokenizer.ggml.token_type': token {}: expected 1 to 6, found {}", i, kind);
        }
        // Some converters pad a vocabulary with empty tokens; nothing is ever encoded as them.
        v.tokens.push_back(token.empty() ? fmt::format("[EMPTY_{}]", i) : std::string(token));
        v.kinds.push_back(token.empty() ? int(unused) : int(kind));
    }
    auto named = [&](const char* key, std::optional<std::string>& token) {
        if (std::optional<size_t> id = token_id(file, key, v.tokens.size())) {
            token = v.tokens[*id];
            if (!kinds) v.kinds[*id] = control;
        }
    };
    named("tokenizer.ggml.bos_token_id", v.config.bos_token);
    named("tokenizer.ggml.eos_token_id", v.config.eos_token);
    named("tokenizer.ggml.padding_token_id", v.config.pad_token);
    v.config.add_bos_token = file.boolean("tokenizer.ggml.add_bos_token");
    return v;
}

// Protocol-buffer wire format.
void put_varint(std::string& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out += char(value | 0x80);
    out += char(value);
}
void put_integer(std::string& out, unsigned field, uint64_t value) {
    put_varint(out, field << 3);
    put_varint(out, value);
}
void put_bytes(std::string& out, unsigned field, std::string_view bytes) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.size());
    out += bytes;
}
void put_float(std::string& out, unsigned field, float value) {
    put_varint(out, field << 3 | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) out += char(bits >> shift & 0xff);
}

// https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
TokenizerParts as_sentencepiece(const GgufFile& file, Vocabulary v) {
    std::optional<std::vector<double>> scores = file.numbers("tokenizer.ggml.scores");
    if (!scores || scores->size() != v.tokens.size()) {
        fail("key 'tokenizer.ggml.scores': expected one for each of {} tokens, found {}", v.tokens.size(),
             scores ? scores->size() : 0);
    }
    if (std::ranges::count(v.kinds, int(unknown)) == 0) {
        v.kinds[token_id(file, "tokenizer.ggml.unknown_token_id", v.tokens.size()).value_or(0)] = unknown;
    }
    std::string model, piece, trainer, normalizer;
    for (size_t i = 0; i < v.tokens.size(); ++i) {
        piece.clear();
        put_bytes(piece, 1, v.tokens[i]);
        put_float(piece, 2, float((*scores)[i]));
        put_integer(piece, 3, uint64_t(v.kinds[i]));
        put_bytes(model, 1, piece);
    }
    put_integer(trainer, 3, 2);                                            // model_type: BPE
    put_integer(trainer, 35, std::ranges::count(v.kinds, int(byte)) > 0);  // byte_fallback
    for (size_t i = 0; i < v.tokens.size(); ++i)
        if (v.kinds[i] == unknown) put_bytes(trainer, 45, v.tokens[i]);  // unk_piece
    if (v.config.bos_token) put_bytes(trainer, 46, *v.config.bos_token);
    if (v.config.eos_token) put_bytes(trainer, 47, *v.config.eos_token);
    put_bytes(normalizer, 1, "identity");
    put_integer(normalizer, 3, file.boolean("tokenizer.ggml.add_space_prefix").value_or(true));  // add_dummy_prefix
    put_integer(normalizer, 4, file.boolean("tokenizer.ggml.remove_extra_whitespaces").value_or(false));
    put_integer(normalizer, 5, 1);  // escape_whitespaces
    put_bytes(model, 2, trainer);
    put_bytes(model, 3, normalizer);
    return parse_sentencepiece(model, v.config);
}

// How a text is cut into words, by the names that llama.cpp's converter gives.
struct Pretokenizer {
    std::vector<std::string_view> patterns;  // one after the other, matches and what lies between are words
    bool ignore_merges = false, add_bos = false;
};
Pretokenizer pretokenizer_of(std::string_view name) {
    if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") return {{llama3_pattern}, true, true};
    if (name == "gpt-2") return {{gpt2_pattern}};
    if (name == "smollm") return {{R"(\p{N})", gpt2_pattern}};
    if (name == "default") return {{R"([\p{P}$+<=>^~|]+)", gpt2_pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}};
    fail("key 'tokenizer.ggml.pre': '{}' is not supported; expected llama-bpe, gpt-2, smollm or default", printable(name, 60));
}

TokenizerParts as_json(const GgufFile& file, Vocabulary v) {
    using Json = nlohmann::json;
    const std::vector<std::string_view>* merges = file.strings("tokenizer.ggml.merges");
    if (!merges) fail("the key 'tokenizer.ggml.merges' is missing, which a tokenizer of byte pairs needs");
    const Pretokenizer pre = pretokenizer_of(file.string("tokenizer.ggml.pre").value_or("default"));

    Json vocabulary = Json::object(), added = Json::array(), list = Json::array(), steps = Json::array();
    for (size_t i = 0; i < v.tokens.size(); ++i) {
        const bool is_control = v.kinds[i] == control || v.kinds[i] == unknown;
        if (!is_control && !vocabulary.emplace(v.tokens[i], i).second) {
            fail("key 'tokenizer.ggml.tokens': '{}' stands there twice, the second time as token {}", printable(v.tokens[i], 60),
                 i);
        }
        if (!is_control && v.kinds[i] != user_defined) continue;
        added.push_back({{"id", i}, {"content", v.tokens[i]}, {"special", is_control}, {"normalized", false}});
    }
    for (std::string_view merge : *merges) list.push_back(merge);
    for (std::string_view pattern : pre.patterns)
        steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}});
    steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
    Json model = {
        {"type", "BPE"}, {"vocab", std::move(vocabulary)}, {"merges", std::move(list)}, {"ignore_merges", pre.ignore_merges}};
    if (!v.config.add_bos_token) v.config.add_bos_token = pre.add_bos && v.config.bos_token;
    return make_json_tokenizer({{"model", std::move(model)},
                                {"added_tokens", std::move(added)},
                                {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}},
                                {"decoder", {{"type", "ByteLevel"}}}},
                               v.config);
}

}  // namespace

TokenizerParts make_gguf_tokenizer(const GgufFile& file) {
    std::string_view model = file.string("tokenizer.ggml.model").value_or("");
    if (model == "llama") return as_sentencepiece(file, read_vocabulary(file));
    if (model == "gpt2") return as_json(file, read_vocabulary(file));
    if (model.empty()) fail("has no tokenizer: the key 'tokenizer.ggml.model' is missing");
    fail("key 'tokenizer.ggml.model': a tokenizer '{}' is not supported; expected llama or gpt2", printable(model, 60));
}

}  // namespace vkqat

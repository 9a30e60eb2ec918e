// tokenizer.json of Hugging Face: added tokens, normalizer, pre-tokenizer, byte-pair encoding, post-processor, decoder.
#include <algorithm>

#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/json_input.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/tokenizer_parts.h"
#include "runtime/text/word_cache.h"

namespace vkqat {
namespace {

using Json = nlohmann::json;

struct DecodeReplace {
    std::string what, by;
};

struct Pipeline {
    std::vector<NormalizeStep> normalizer;
    std::vector<PretokenizeStep> pretokenizer;
    bool byte_level = false;  // words are written in the byte alphabet
    bool decode_byte_level = false, decode_bytes = false;
    std::vector<DecodeReplace> decode_replace;
    AddedTokens raw, normalized;  // looked for before and after normalizing
};

// Calls `each` for an element, or for those of a Sequence (also nested). Null is no element.
template <class Each>
void in_sequence(const Json& element, const char* list, Each&& each) {
    if (element.is_null()) return;
    if (json_string(element, "type") != "Sequence") return each(element);
    const Json& elements = json_get(element, list);
    if (!elements.is_array()) fail("\"{}\": expected an array, found {}", list, elements.type_name());
    for (const Json& e : elements) in_sequence(e, list, each);
}

// Text that is put in many times: bounded, so that a small file does not ask for much memory.
std::string short_string(const Json& object, const char* key) {
    std::string text = json_string(object, key);
    if (text.size() > 256) fail("\"{}\": {} bytes are too many (at most 256)", key, text.size());
    return text;
}

std::string escape_regex(std::string_view text) {
    std::string out;
    for (char c : text) {
        if (std::string_view("\\^$.|?*+()[]{}-#&~ ").find(c) != std::string_view::npos) out += '\\';
        out += c;
    }
    return out;
}

std::variant<std::string, Regex> read_pattern(const Json& element) {
    const Json& pattern = json_get(element, "pattern");
    if (pattern.is_string()) return pattern.get<std::string>();
    if (!json_get(pattern, "String").is_null()) return json_string(pattern, "String");
    return Regex(json_string(pattern, "Regex"));
}

void read_normalizer(const Json& json, Pipeline& p) {
    in_sequence(json, "normalizers", [&](const Json& e) {
        const std::string type = json_string(e, "type");
        if (type == "Prepend") {
            p.normalizer.push_back(PrependStep{short_string(e, "prepend")});
        } else if (type == "Replace") {
            p.normalizer.push_back(ReplaceStep{read_pattern(e), short_string(e, "content")});
        } else {
            fail("normalizer {} is not supported (Prepend, Replace and Sequence are)", type);
        }
    });
}

MetaspaceStep read_metaspace(const Json& e) {
    MetaspaceStep step;
    step.replacement = short_string(e, "replacement");
    if (step.replacement.empty()) fail("Metaspace: the replacement is empty");
    step.split = json_bool(e, "split", true);
    std::string scheme = json_bool(e, "add_prefix_space", true) ? "always" : "never";  // older files
    if (!json_get(e, "prepend_scheme").is_null()) scheme = json_string(e, "prepend_scheme");
    if (scheme == "always") {
        step.prepend = MetaspaceStep::Prepend::always;
    } else if (scheme == "first") {
        step.prepend = MetaspaceStep::Prepend::first;
    } else if (scheme == "never") {
        step.prepend = MetaspaceStep::Prepend::never;
    } else {
        fail("Metaspace: prepend_scheme {} is none of always, first, never", scheme);
    }
    return step;
}

void read_pretokenizer(const Json& json, Pipeline& p) {
    in_sequence(json, "pretokenizers", [&](const Json& e) {
        const std::string type = json_string(e, "type");
        if (p.byte_level) fail("pre-tokenizer {} after ByteLevel is not supported", type);
        if (type == "ByteLevel") {
            if (json_bool(e, "add_prefix_space", true)) p.pretokenizer.push_back(PrefixSpaceStep{});
            if (json_bool(e, "use_regex", true)) p.pretokenizer.push_back(SplitStep{Regex(gpt2_pattern)});
            p.byte_level = true;
        } else if (type == "Split") {
            auto pattern = read_pattern(e);
            const std::string behavior = json_string(e, "behavior");
            if (behavior != "Isolated" && behavior != "Removed")
                fail("pre-tokenizer Split: behavior {} is not supported (Isolated and Removed are)", behavior);
            if (const auto* plain = std::get_if<std::string>(&pattern)) pattern = Regex(escape_regex(*plain));
            p.pretokenizer.push_back(
                SplitStep{std::get<Regex>(std::move(pattern)), behavior == "Removed", json_bool(e, "invert", false)});
        } else if (type == "Digits") {
            p.pretokenizer.push_back(SplitStep{Regex(json_bool(e, "individual_digits", false) ? "\\p{N}" : "\\p{N}+")});
        } else if (type == "Metaspace") {
            p.pretokenizer.push_back(read_metaspace(e));
        } else {
            fail("pre-tokenizer {} is not supported (Split, Digits, ByteLevel, Metaspace and Sequence are)", type);
        }
    });
}

void read_decoder(const Json& json, Pipeline& p, Tokenizer::Parts& parts) {
    if (json.is_null()) p.decode_byte_level = p.byte_level;  // the library would put spaces between all tokens
    in_sequence(json, "decoders", [&](const Json& e) {
        const std::string type = json_string(e, "type");
        if (type == "ByteLevel") {
            p.decode_byte_level = true;
        } else if (type == "ByteFallback") {
            p.decode_bytes = true;
        } else if (type == "Replace") {
            auto pattern = read_pattern(e);
            if (!std::holds_alternative<std::string>(pattern)) fail("decoder Replace with a regular expression is not supported");
            p.decode_replace.push_back({std::get<std::string>(pattern), short_string(e, "content")});
        } else if (type == "Strip") {
            if (json_integer(json_get(e, "stop"), "decoder Strip: \"stop\"", 1 << 20) != 0)
                fail("decoder Strip at the end of a text is not supported");
            parts.strip = short_string(e, "content");
            parts.strip_count = size_t(json_integer(json_get(e, "start"), "decoder Strip: \"start\"", 1 << 20));
        } else if (type == "Metaspace") {
            const MetaspaceStep step = read_metaspace(e);
            p.decode_replace.push_back({step.replacement, " "});
            if (step.prepend != MetaspaceStep::Prepend::never) {
                parts.strip = " ";
                parts.strip_count = 1;
            }
        } else if (type != "Fuse") {
            fail("decoder {} is not supported (ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip and Sequence are)", type);
        }
    });
}

void read_post_processor(const Json& json, Tokenizer::Parts& parts) {
    in_sequence(json, "processors", [&](const Json& e) {
        const std::string type = json_string(e, "type");
        if (type == "ByteLevel") return;  // concerns offsets only
        if (type != "TemplateProcessing")
            fail("post-processor {} is not supported (TemplateProcessing, ByteLevel and Sequence are)", type);
        const Json& single = json_get(e, "single");
        if (!single.is_array()) fail("TemplateProcessing: \"single\": expected an array, found {}", single.type_name());
        bool after = false;
        for (const Json& piece : single) {
            const Json& special = json_get(piece, "SpecialToken");
            if (special.is_null()) {
                if (after || json_string(json_get(piece, "Sequence"), "id") != "A")
                    fail("TemplateProcessing: \"single\" must have the sequence A once");
                after = true;
                continue;
            }
            const std::string name = json_string(special, "id");
            const Json& ids = json_get(json_get(json_get(e, "special_tokens"), name.c_str()), "ids");
            if (!ids.is_array() || ids.size() > 16) fail("TemplateProcessing: special token {} has no list of ids", name);
            for (const Json& id : ids) {
                const TokenId value =
                    TokenId(json_integer(id, "TemplateProcessing: id of " + name, int64_t(parts.tokens.size()) - 1));
                (after ? parts.suffix : parts.prefix).push_back(value);
            }
        }
        parts.add_bos = !parts.prefix.empty();
    });
}

void set_token(Tokenizer::Parts& parts, TokenId id, const std::string& content, std::string_view where) {
    if (parts.tokens.size() <= size_t(id)) parts.tokens.resize(size_t(id) + 1);
    std::string& token = parts.tokens[size_t(id)];
    if (!token.empty() && token != content) fail("{}: id {} of {} is already that of {}", where, id, content, token);
    auto [found, is_new] = parts.ids.emplace(content, id);
    if (!is_new && found->second != id) fail("{}: {} has the ids {} and {}", where, content, found->second, id);
    token = content;
}

std::vector<TokenizerConfig::Added> read_added_tokens(const Json& json, int64_t highest_id) {
    std::vector<TokenizerConfig::Added> added;
    if (json.is_null()) return added;
    if (!json.is_array()) fail("\"added_tokens\": expected an array, found {}", json.type_name());
    for (const Json& e : json) {
        const TokenId id = TokenId(json_integer(json_get(e, "id"), "id of an added token", highest_id));
        const bool special = json_bool(e, "special", false);
        added.push_back({id, json_string(e, "content"), special, json_bool(e, "lstrip", false), json_bool(e, "rstrip", false),
                         json_bool(e, "single_word", false), json_bool(e, "normalized", !special)});
    }
    return added;
}

std::vector<BpeMerge> read_merges(const Json& json, const BpeModel::Vocabulary& vocabulary) {
    if (!json.is_array()) fail("\"merges\": expected an array, found {}", json.type_name());
    if (json.size() > size_t(1) << 24) fail("\"merges\": {} are too many", json.size());
    std::vector<BpeMerge> merges;
    merges.reserve(json.size());
    std::string left, right;
    for (const Json& e : json) {
        const size_t rank = merges.size();
        if (e.is_string()) {
            const auto& text = e.get_ref<const std::string&>();
            const size_t space = text.find(' ');
            if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
                fail("merge {}: expected two tokens with a space between, found \"{}\"", rank, text);
            left = text.substr(0, space);
            right = text.substr(space + 1);
        } else if (e.is_array() && e.size() == 2 && e[0].is_string() && e[1].is_string()) {
            left = e[0].get_ref<const std::string&>();
            right = e[1].get_ref<const std::string&>();
        } else {
            fail("merge {}: expected a string or a pair of strings, found {}", rank, e.type_name());
        }
        auto id = [&](const std::string& token) {
            auto found = vocabulary.find(token);
            if (found == vocabulary.end()) fail("merge {} ({} {}): {} is not in the vocabulary", rank, left, right, token);
            return found->second;
        };
        merges.push_back({id(left), id(right), int32_t(rank), id(left + right)});
    }
    return merges;
}

class JsonBackend : public TokenizerBackend {
public:
    JsonBackend(Pipeline pipeline, BpeModel model, const std::vector<std::string>& tokens, std::vector<bool> added)
        : p_(std::move(pipeline)), model_(std::move(model)), tokens_(tokens), added_(std::move(added)) {}

    void encode(std::string_view text, const EncodeOptions& options, std::vector<TokenId>& ids) const override {
        for (const auto& part : p_.raw.split(text, options.parse_special, options.literal)) {
            if (part.token >= 0) {
                ids.push_back(part.token);
                continue;
            }
            std::string changed;
            std::string_view plain = part.text;
            if (!p_.normalizer.empty()) plain = changed = normalize(p_.normalizer, plain);
            // Offsets are lost in normalizing, so a part with literal text has no special tokens that are looked for behind it.
            const size_t begin = size_t(part.text.data() - text.data()), end = begin + part.text.size();
            const auto first = std::lower_bound(options.literal.begin(), options.literal.end(), begin);
            const bool literal = first != options.literal.end() && *first < end;
            for (const auto& inner : p_.normalized.split(plain, options.parse_special && !literal)) {
                if (inner.token >= 0) {
                    ids.push_back(inner.token);
                    continue;
                }
                encode_plain(inner.text, part.text.data() == text.data() && inner.text.data() == plain.data(), ids);
            }
        }
    }

    std::string piece(TokenId id) const override {
        const std::string& token = tokens_[size_t(id)];
        if (added_[size_t(id)]) return token;
        if (p_.decode_bytes && token.size() == 6 && token.starts_with("<0x") && token.ends_with('>')) {
            unsigned value = 0;
            for (char c : token.substr(3, 2)) {
                const unsigned digit = unsigned(c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16);
                value = digit < 16 ? value * 16 + digit : 0x10000;
            }
            if (value < 256) return std::string(1, char(value));
        }
        std::string text = token;
        for (const auto& [what, by] : p_.decode_replace) text = replace_all(text, what, by);
        if (p_.decode_byte_level)
            if (auto bytes = from_byte_level(text)) return *bytes;
        return text;
    }

private:
    void encode_plain(std::string_view text, bool first, std::vector<TokenId>& ids) const {
        std::deque<std::string> storage;
        for (std::string_view word : pretokenize(p_.pretokenizer, text, first, storage)) {
            cache_.get(word, ids, [&](std::string_view w, std::vector<TokenId>& out) {
                if (p_.byte_level) {
                    model_.encode(to_byte_level(w), out);
                } else {
                    model_.encode(w, out);
                }
            });
        }
    }

    Pipeline p_;
    BpeModel model_;
    const std::vector<std::string>& tokens_;  // of the Parts that own this
    std::vector<bool> added_;                 // by id
    mutable WordCache cache_;
};

BpeModel read_model(const Json& model, Tokenizer::Parts& parts) {
    const Json& type = json_get(model, "type");
    if (!(type.is_null() && model.contains("merges")) && json_string(model, "type") != "BPE")
        fail("a model of type {} is not supported (BPE is)", json_string(model, "type"));
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
        if (!json_get(model, key).is_null() && !json_string(model, key).empty()) fail("\"{}\" is not supported", key);
    const Json& dropout = json_get(model, "dropout");
    if (!dropout.is_null() && dropout != 0) fail("\"dropout\" is not supported: it would make the ids random");

    const Json& json_vocabulary = json_get(model, "vocab");
    if (!json_vocabulary.is_object() || json_vocabulary.empty())
        fail("\"vocab\": expected an object of tokens and ids, found {}",
             json_vocabulary.empty() ? "nothing" : json_vocabulary.type_name());
    // Ids may leave gaps, but not so large ones that a small file asks for much memory.
    const int64_t highest = 2 * int64_t(json_vocabulary.size()) + 65536;
    BpeModel::Vocabulary vocabulary;
    vocabulary.reserve(json_vocabulary.size());
    for (const auto& [token, value] : json_vocabulary.items()) {
        if (token.empty()) fail("\"vocab\": an empty token");
        const TokenId id = TokenId(json_integer(value, "\"vocab\": id of " + token, highest));
        set_token(parts, id, token, "\"vocab\"");
        vocabulary.emplace(token, id);
    }

    BpeOptions options;
    if (!json_get(model, "unk_token").is_null()) {
        const std::string unknown = json_string(model, "unk_token");
        auto found = vocabulary.find(unknown);
        if (found == vocabulary.end()) fail("\"unk_token\": {} is not in the vocabulary", unknown);
        options.unknown = found->second;
    }
    options.fuse_unknown = json_bool(model, "fuse_unk", false);
    options.byte_fallback = json_bool(model, "byte_fallback", false);
    options.ignore_merges = json_bool(model, "ignore_merges", false);
    return BpeModel(vocabulary, read_merges(json_get(model, "merges"), vocabulary), options);
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view text, const TokenizerConfig& config) {
    return make_json_tokenizer(parse_json(text), config);
}

TokenizerParts make_json_tokenizer(const Json& json, const TokenizerConfig& config) {
    auto parts = std::make_shared<Tokenizer::Parts>();
    BpeModel model = in_context("model", [&] { return read_model(json_get(json, "model"), *parts); });

    const int64_t highest_added = int64_t(parts->tokens.size()) + 65536;
    auto added = read_added_tokens(json_get(json, "added_tokens"), highest_added);
    for (const auto& t : config.added) {
        if (t.id > highest_added) fail("tokenizer_config.json: id {} of added token {} is out of range", t.id, t.content);
        if (std::none_of(added.begin(), added.end(), [&](const auto& a) { return a.content == t.content; })) added.push_back(t);
    }

    Pipeline p;
    in_context("normalizer", [&] { read_normalizer(json_get(json, "normalizer"), p); });
    in_context("pre_tokenizer", [&] { read_pretokenizer(json_get(json, "pre_tokenizer"), p); });
    in_context("decoder", [&] { read_decoder(json_get(json, "decoder"), p, *parts); });
    std::vector<AddedToken> raw, normalized;
    for (const auto& t : added) {
        if (t.content.empty()) fail("added token {} is empty", t.id);
        set_token(*parts, t.id, t.content, "\"added_tokens\"");
        // As in the reference: such a token is looked for in the normalized text, and is normalized itself.
        auto& list = t.normalized ? normalized : raw;
        list.push_back(
            {t.id, t.normalized ? normalize(p.normalizer, t.content) : t.content, t.special, t.lstrip, t.rstrip, t.single_word});
    }
    parts->special.resize(parts->tokens.size());
    std::vector<bool> is_added(parts->tokens.size());
    for (const auto& t : added) {
        parts->special[size_t(t.id)] = t.special;
        is_added[size_t(t.id)] = true;
    }
    p.raw = AddedTokens(std::move(raw));
    p.normalized = AddedTokens(std::move(normalized));
    in_context("post_processor", [&] { read_post_processor(json_get(json, "post_processor"), *parts); });
    if (parts->prefix.empty()) parts->add_bos = config.add_bos_token.value_or(false);
    parts->kind = p.byte_level ? "byte-level BPE" : "BPE";
    parts->backend = std::make_unique<JsonBackend>(std::move(p), std::move(model), parts->tokens, std::move(is_added));
    name_special_tokens(*parts, config);
    return parts;
}

}  // namespace vkqat

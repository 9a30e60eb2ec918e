// SentencePiece models (Llama 1 and 2), through the SentencePiece library.
#include <sentencepiece_processor.h>

#include <algorithm>

#include "runtime/support/error.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/sentencepiece_check.h"
#include "runtime/text/tokenizer_parts.h"

namespace vkqat {
namespace {

constexpr std::string_view space_symbol = "\xE2\x96\x81";  // U+2581

class SentencePieceBackend : public TokenizerBackend {
public:
    SentencePieceBackend(std::unique_ptr<sentencepiece::SentencePieceProcessor> processor, std::string unk_surface,
                         AddedTokens added, const std::vector<std::string>& tokens)
        : processor_(std::move(processor)), unk_surface_(std::move(unk_surface)), added_(std::move(added)), tokens_(tokens) {}

    void encode(std::string_view text, const EncodeOptions& options, std::vector<TokenId>& ids) const override {
        std::vector<int> some;
        for (const auto& part : added_.split(text, options.parse_special, options.literal)) {
            if (part.token >= 0) {
                ids.push_back(part.token);
                continue;
            }
            const auto status = processor_->Encode(part.text, &some);
            if (!status.ok()) fail("SentencePiece: {}", status.ToString());
            ids.insert(ids.end(), some.begin(), some.end());
        }
    }

    std::string piece(TokenId id) const override {
        const std::string& token = tokens_[size_t(id)];
        if (id >= processor_->GetPieceSize()) return token;
        if (processor_->IsByte(id)) return std::string(1, char(std::stoi(token.substr(3, 2), nullptr, 16)));
        if (processor_->IsUnknown(id)) return unk_surface_;
        return replace_all(token, space_symbol, " ");
    }

private:
    std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
    std::string unk_surface_;
    AddedTokens added_;
    const std::vector<std::string>& tokens_;  // of the Parts that own this
};

}  // namespace

TokenizerParts parse_sentencepiece(std::string_view bytes, const TokenizerConfig& config) {
    const SentencePieceSettings settings = check_sentencepiece(bytes);
    if (settings.treat_whitespace_as_suffix) fail("SentencePiece models that put spaces behind words are not supported");
    auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
    const auto status = processor->LoadFromSerializedProto(bytes);
    if (!status.ok()) fail("not a usable SentencePiece model: {}", status.ToString());

    auto parts = std::make_shared<Tokenizer::Parts>();
    const size_t pieces = size_t(processor->GetPieceSize());
    std::vector<AddedToken> added;
    for (size_t i = 0; i < pieces; ++i) {
        const std::string& piece = processor->IdToPiece(int(i));
        parts->tokens.push_back(piece);
        parts->ids.emplace(piece, TokenId(i));
        parts->special.push_back(processor->IsControl(int(i)));
        if (parts->special.back()) added.push_back({TokenId(i), piece, true});
    }
    for (const auto& t : config.added) {
        if (t.content.empty()) fail("tokenizer_config.json: added token {} is empty", t.id);
        if (size_t(t.id) < pieces) {
            if (parts->tokens[size_t(t.id)] != t.content)
                fail("tokenizer_config.json: added token {} is {}, but the model has {}", t.id, t.content,
                     parts->tokens[size_t(t.id)]);
            continue;
        }
        if (size_t(t.id) > pieces + 65536)
            fail("tokenizer_config.json: id {} of added token {} is out of range", t.id, t.content);
        if (!parts->ids.emplace(t.content, t.id).second) fail("tokenizer_config.json: added token {} has two ids", t.content);
        parts->tokens.resize(std::max(parts->tokens.size(), size_t(t.id) + 1));
        if (!parts->tokens[size_t(t.id)].empty()) fail("tokenizer_config.json: two added tokens have the id {}", t.id);
        parts->tokens[size_t(t.id)] = t.content;
        parts->special.resize(parts->tokens.size());
        parts->special[size_t(t.id)] = t.special;
        added.push_back({t.id, t.content, t.special, t.lstrip, t.rstrip, t.single_word});
    }
    auto known = [](int id) { return id >= 0 ? std::optional<TokenId>(id) : std::nullopt; };
    parts->bos = known(processor->bos_id());
    parts->eos = known(processor->eos_id());
    parts->pad = known(processor->pad_id());
    parts->add_bos = config.add_bos_token.value_or(parts->bos.has_value());
    if (settings.add_dummy_prefix || settings.remove_extra_whitespaces) {
        parts->strip = " ";
        parts->strip_count = settings.remove_extra_whitespaces ? size_t(-1) : 1;
    }
    static const char* const kinds[] = {"", "unigram", "BPE", "word", "character"};
    parts->kind = std::string("SentencePiece ") + kinds[settings.model_type];
    parts->backend = std::make_unique<SentencePieceBackend>(std::move(processor), settings.unk_surface,
                                                            AddedTokens(std::move(added)), parts->tokens);
    name_special_tokens(*parts, config);
    return parts;
}

}  // namespace vkqat

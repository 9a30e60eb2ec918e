// Tokenizers: text to ids and back. SentencePiece models, Hugging Face's tokenizer.json (byte-pair encoding), Meta's tiktoken
// files. See load_tokenizer() for what is read and what is refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

using TokenId = int32_t;

struct EncodeOptions {
    // Begin with the sequence's start token(s)? Not given: as the tokenizer has it (tokenizer.json: the TemplateProcessing
    // post-processor, else add_bos_token of tokenizer_config.json; SentencePiece and tiktoken: yes, unless add_bos_token says
    // no). true where the tokenizer has no such token: Error.
    std::optional<bool> add_bos;
    // End with the end-of-sequence token(s)? Never by default, also where a post-processor would: a prompt is to be continued.
    bool add_eos = false;
    // Special tokens that are written out in the text (<|eot_id|>) become their ids. Off: they are text as any other, which is
    // what text from outside needs. Added tokens that are not special are always found.
    bool parse_special = false;
    // For text from outside within a text whose special tokens are parsed: byte offsets, ascending. A special token that begins
    // before one of them and ends behind it is text. The text must be valid UTF-8.
    std::span<const size_t> literal;
};

// Cheap to copy; safe to use from several threads.
class Tokenizer {
public:
    // Ids of `text`. Ill-formed UTF-8 is first replaced by U+FFFD, as the reference libraries' users do (utf8_lossy()).
    // Error for a text of a GiB or more.
    std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;

    // The bytes that the ids stand for; not always valid UTF-8, as a token may hold a part of a character. `special`: with the
    // special tokens written out, else they are left out. Error for an id outside the vocabulary.
    std::string decode(std::span<const TokenId> ids, bool special = false) const;
    // The same for one token in the middle of a text, for streaming (see Utf8Stream): no space is removed at the beginning.
    std::string decode_piece(TokenId id, bool special = false) const;

    size_t vocab_size() const;                   // the highest id + 1
    const std::string& token(TokenId id) const;  // as written in the vocabulary; empty for an id that is not used
    std::optional<TokenId> id(std::string_view token) const;
    bool is_special(TokenId id) const;
    std::optional<TokenId> bos() const;
    std::optional<TokenId> eos() const;
    std::optional<TokenId> pad() const;
    const std::string& kind() const;  // "SentencePiece BPE", "byte-level BPE", ... for people

    struct Parts;
    explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

private:
    std::shared_ptr<const Parts> parts_;
};

// `path`: a file (also a model's .gguf), or a directory with tokenizer.json, else tokenizer.model, else a single *.model.
// tokenizer_config.json beside it names the start, end and padding tokens and may add tokens. Error, with file and reason, for
// anything malformed and for what would have to be ignored:
// - tokenizer.json: models other than BPE; normalizers other than Sequence, Prepend, Replace; pre-tokenizers other than
//   Sequence, Split (Isolated, Removed), Digits, ByteLevel (last), Metaspace; decoders other than Sequence, ByteLevel, Metaspace,
//   Replace, ByteFallback, Fuse, Strip; post-processors other than Sequence, ByteLevel, TemplateProcessing; dropout,
//   continuing_subword_prefix, end_of_word_suffix. Truncation and padding settings are for batches and have no effect here.
// - *.gguf: tokenizers other than "llama" (as a SentencePiece BPE model) and "gpt2" (byte-level BPE) with the pre-tokenizers
//   llama-bpe, gpt-2, smollm and default; also if it has none at all.
// - *.model: a SentencePiece model, or Meta's tiktoken format (base64 and rank per line) with Llama 3's pattern and tokens.
Tokenizer load_tokenizer(const std::filesystem::path& path);

}  // namespace vkqat

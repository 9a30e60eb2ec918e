// Trains a small byte-level BPE tokenizer from text and writes it as Hugging Face's tokenizer.json.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace vkqat {

struct BpeTrainingOptions {
    size_t vocab_size = 4096;  // special tokens and the 256 bytes included; fewer come out where the text offers no more pairs
    std::vector<std::string> special_tokens = {"<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"};  // ids 0, 1, 2, ...
    // Which of the special tokens begins a text (and is put in front by default), ends one, fills up. Empty: none.
    std::string bos_token = "<|begin_of_text|>", eos_token = "<|end_of_text|>", pad_token = "<|pad|>";
    std::optional<std::string> chat_template;  // Jinja, for tokenizer_config.json
};

struct BpeTraining {
    std::vector<std::string> tokens;                          // by id, in the byte alphabet: special, bytes, merged
    std::vector<std::pair<std::string, std::string>> merges;  // in order
};

// Words are cut as Llama 3 does; the most frequent pair is merged first, of equally frequent ones that with the lower ids. The
// same texts in the same order give the same result. A pair that occurs once is not merged. Memory grows with the number of
// different words. Error: a vocabulary below special tokens + 256 or above a million, special tokens that are empty or doubled.
BpeTraining train_bpe(std::span<const std::string> texts, const BpeTrainingOptions& options);

// Writes tokenizer.json and tokenizer_config.json into `directory`, which is made if it is missing.
void write_tokenizer(const std::filesystem::path& directory, const BpeTraining& training, const BpeTrainingOptions& options);

}  // namespace vkqat

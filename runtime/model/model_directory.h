// A model directory (or .gguf file) as programs use it: whether it is one, its name, its tokenizer, what ends a text.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/formats/llama_config.h"
#include "runtime/text/tokenizer.h"

namespace vkqat {

// Error that says what is wrong with `path` if it is neither a model directory nor a .gguf file.
void check_model_directory(const std::filesystem::path& path);

// The folder's name: "out/2-bit-model/" -> "2-bit-model"
std::string model_name(const std::filesystem::path& path);

// The tokenizer of a directory, nothing if there is none. Error if it is damaged, or has ids that the model does not.
std::optional<Tokenizer> find_tokenizer(const std::filesystem::path& directory, const LlamaConfig& config);
Tokenizer need_tokenizer(const std::filesystem::path& directory, const LlamaConfig& config);  // Error if there is none

// Text of one id in the middle of a text. An id that the tokenizer lacks (of a padded vocabulary) is shown as "[id 511]".
std::string piece_text(const Tokenizer& tokenizer, int32_t id, bool special = false);

// Ids that end a text: those of generation_config.json, else of config.json, else the tokenizer's.
std::vector<int32_t> end_ids(const GenerationConfig& generation, const std::optional<Tokenizer>& tokenizer);

}  // namespace vkqat

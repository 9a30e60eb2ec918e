// Model directories of a given shape with random weights: what loading is measured on where there is no model of that size.
#pragma once

#include <filesystem>

#include "runtime/formats/llama_config.h"

namespace vkqat {

// A new directory without a tokenizer; bits 1, 2, 3, 4 or 8: packed linear layers in blocks of 64, 16: bf16. Error as
// write_model_directory (runtime/formats/checkpoint.h), or if rows do not divide into blocks.
void write_random_model(const std::filesystem::path& directory, const LlamaConfig& config, int bits);

}  // namespace vkqat

// A model directory with random weights, for the program to work on.
#pragma once

#include <filesystem>

namespace vkqat::test {

// Two layers of width 32, 64 positions, f32. With a tokenizer of `vocab_size` tokens (at least 262, Llama 3's tokens for turns
// among them) unless `tokenizer` is false.
void write_small_model(const std::filesystem::path& directory, int vocab_size = 300, bool tokenizer = true);

}  // namespace vkqat::test

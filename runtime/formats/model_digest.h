// What tells models apart.
#pragma once

#include <filesystem>
#include <string>

namespace vkqat {

// Eight bytes over the files that make a model what it is (weights, configurations, tokenizer), as 16 hexadecimal digits.
// Reads all of them: about a second per GB.
std::string model_digest(const std::filesystem::path& model);

}  // namespace vkqat

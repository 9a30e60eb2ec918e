// A tokenizer as the trainer needs it: for data, and as files that travel with checkpoints and exported models.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/text/tokenizer.h"
#include "trainer/token_cache.h"

namespace vkqat {

// A file of a tokenizer, and its name in a model directory.
struct TokenizerFile {
    std::filesystem::path path;
    std::string name;  // tokenizer.json or tokenizer.model; tokenizer_config.json and the like
};

// The files of the tokenizer that load_tokenizer(path) reads, and those beside it that say how it is used (chat template,
// special tokens). Error if there is no tokenizer.
std::vector<TokenizerFile> tokenizer_files(const std::filesystem::path& path);

// The tokenizer in `path` for data: without BOS and EOS, special tokens in the text are text.
TextEncoder text_encoder(const Tokenizer& tokenizer, const std::filesystem::path& path);

}  // namespace vkqat

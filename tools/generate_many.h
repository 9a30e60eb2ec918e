// vkqat generate --prompts: many prompts from a file, several at a time, results into a JSON Lines file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/model/session.h"
#include "tools/model.h"

namespace vkqat {

struct ManyOptions {
    std::filesystem::path prompts, out;
    int64_t batch = 0;  // texts at a time; 0: 16 on a GPU, 4 on a CPU
    int64_t max_tokens = 256;
    bool ignore_end = false;
    CacheOption cache;
};

// One prompt of the file. Lines of a .jsonl file are objects with "prompt" or "ids", perhaps "max_tokens" and "seed"; any other
// file has a prompt in each line that is not empty.
struct Prompt {
    int64_t line = 0;  // counted from 1
    std::string text;  // empty if ids were given
    std::vector<int32_t> ids;
    std::optional<int64_t> max_tokens;
    std::optional<uint64_t> seed;
};

// Errors name the line.
std::vector<Prompt> read_prompts(const std::filesystem::path& file, const std::optional<Tokenizer>& tokenizer,
                                 const LlamaConfig& config);

// Which prompts `out` answers already, by index. A last line that was cut off is removed. Error if a line is not a result of
// these prompts.
std::vector<bool> answered(const std::filesystem::path& out, const std::vector<Prompt>& prompts);

void generate_many(const std::string& model, const ManyOptions& options, const SamplingOptions& sampling,
                   const std::string& device);

}  // namespace vkqat

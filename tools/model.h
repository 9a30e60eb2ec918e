// A model directory as the subcommands use it: its settings, its tokenizer, its weights on a device, what to begin with and how
// to sample.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/model/model_directory.h"
#include "runtime/model/sampling.h"
#include "runtime/model/session.h"
#include "runtime/model/weights.h"
#include "runtime/text/tokenizer.h"
#include "tools/command.h"

namespace vkqat {

// Text of one id (piece_text) in quotes for a table, control characters and parts of characters escaped.
std::string quoted_piece(const Tokenizer& tokenizer, int32_t id);

// On stderr, when the device is a CPU: that it is one.
void announce_cpu(const Gpu& gpu);
// Uploads the weights, with a progress line on a terminal.
LlamaWeights load_weights(Gpu& gpu, const std::filesystem::path& directory);
// The same for these sequences: Error before anything is read if they do not fit into the device's memory with the weights.
LlamaWeights load_weights(Gpu& gpu, const std::filesystem::path& directory, SequencesOptions sequences);

// "1,2,3", also with spaces. UsageError if there is anything else in it or nothing.
std::vector<int32_t> parse_ids(const std::string& text);
// Error naming the id that is outside of the vocabulary.
void check_ids(const std::vector<int32_t>& ids, int64_t vocab_size);

// --prompt TEXT or --ids LIST: one of them is needed.
struct PromptOptions {
    std::optional<std::string> text;
    std::string ids;
    void add(CLI::App& command);
    // The text's ids begin with the tokenizer's start token, as it has it.
    std::vector<int32_t> read(const std::optional<Tokenizer>& tokenizer, const std::filesystem::path& directory,
                              const LlamaConfig& config) const;
};

// Sampling: options of the command line before generation_config.json before 0.7 and top-p 0.95.
struct SamplingOptions : SamplingChoice {
    using Result = Sampling;
    void add(CLI::App& command);
    Result resolve(const GenerationConfig& generation) const;  // UsageError for a value that is out of range
};

// --cache f32|f16|bf16|i8: the type of the KV cache. Not given: what suits the device.
struct CacheOption {
    std::string type;
    void add(CLI::App& command, const std::string& help = "type of the KV cache: f32, f16, bf16, i8 (f16; f32 on a CPU)");
    // session_options() of the device with that cache.
    SessionOptions session(const Device& device, int64_t context) const;
};

}  // namespace vkqat

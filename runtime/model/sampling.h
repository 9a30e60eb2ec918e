// How an answer is sampled: what somebody chose, what the model's files say, and defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/formats/llama_config.h"
#include "runtime/ops/sample.h"

namespace vkqat {

struct SamplingChoice {
    bool greedy = false;
    std::optional<double> temperature, top_p, min_p, repetition_penalty;
    std::optional<int64_t> top_k;
    std::optional<uint64_t> seed;  // without one a random one is drawn
};

struct Sampling {
    SamplerParameters parameters;
    uint64_t seed;
    std::string description;  // "temperature 0.7, top-p 0.95, seed 1"
};

// The choice before generation_config.json before temperature 0.7 and top-p 0.95. Error for a value that is out of range.
Sampling resolve_sampling(const SamplingChoice& choice, const GenerationConfig& generation);

}  // namespace vkqat

// How fast a model answers: what `eval` and `profile` say beside quality.
#pragma once

#include "runtime/model/weights.h"

namespace vkqat {

struct Speed {
    int64_t prompt = 0;              // tokens of the prompt
    double first_token_seconds = 0;  // from the prompt to its first token, the fastest of three
    double decode_rate = 0;          // greedy tokens per second behind it, one sequence
    uint64_t memory_bytes = 0;       // cache and work space of that session
};

// Up to 512 tokens of prompt, then up to 256 tokens or 3 seconds. Zeros where the model's context is too short.
Speed measure_speed(const LlamaWeights& weights);

}  // namespace vkqat

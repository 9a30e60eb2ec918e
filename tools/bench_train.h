// vkqat bench train: a training step of a whole model with random weights and tokens.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/vulkan/device.h"

namespace vkqat {

struct TrainBench {
    std::string flavor;               // of trainer/flavors.h; or
    std::vector<int64_t> dimensions;  // hidden_size, layers, heads, kv_heads, intermediate_size
    int64_t vocabulary = 128256;
    int64_t bits = 4;  // k-means in blocks of 64; 16: not quantized
    int64_t batch = 8, seq_len = 2048;
    std::string precision = "auto";      // as training.precision
    std::string checkpointing = "none";  // as activation_checkpoint.mode
    std::string moments = "fp32";        // as optimizer.moments
};

// Calls `add` for the row of results: a step's time, tokens per second, memory by part, the share of the quantizer, the k-means
// fit's time, and the nodes.
void bench_train(Device& device, const TrainBench& options, const std::function<void(const nlohmann::json&)>& add);

}  // namespace vkqat

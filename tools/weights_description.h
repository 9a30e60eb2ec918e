// What is said of a model's weights beside its results.
#pragma once

#include <string>

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/llama_config.h"

namespace vkqat {

struct WeightsDescription {
    std::string method;          // "nonlinear 2 bits", else the type of the linear layers: "bf16"
    double bits_per_weight = 0;  // of the linear layers of attention and MLP, with scales and centroids
    int64_t linear_weights = 0;  // how many those are
};

WeightsDescription describe_weights(const ModelFiles& files, const LlamaConfig& config);

}  // namespace vkqat

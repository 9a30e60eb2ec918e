// What a model's weights are, read from its files: the bytes and bits of every layer's parts, and how the weights of one are
// spread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/formats/weight_spread.h"

namespace vkqat {

struct WeightPart {
    int64_t layer = -1;  // -1: embedding, head, last norm
    std::string name;    // "q_proj", "norms", "embedding", ...
    std::string tensor;  // of linear layers: "model.layers.3.mlp.up_proj"; else empty
    int64_t weights = 0;
    uint64_t bytes = 0;  // with scales and centroids
    double bits = 0;     // of an index, or of the elements' type; 0 for norms
};

// In the order of the model. Errors as those of reading a model's directory.
std::vector<WeightPart> weight_parts(const std::filesystem::path& model);

// A histogram of a linear layer: of its centroids, or of the weights in 64 bins.
WeightSpread weight_histogram(const std::filesystem::path& model, const std::string& tensor);

}  // namespace vkqat

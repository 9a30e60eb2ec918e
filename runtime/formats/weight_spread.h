// How the weights of a linear layer are spread, for histograms; and the shapes of a model's linear layers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/llama_config.h"
#include "runtime/formats/onebit_packing.h"
#include "runtime/formats/packing.h"

namespace vkqat {

struct LinearShape {
    std::string_view name;  // "self_attn.q_proj", as behind "model.layers.3."
    int64_t out, in;
};
// The seven of a layer, in the order of the model.
std::vector<LinearShape> linear_shapes(const LlamaConfig& config);
// That of a layer's name, such as "model.layers.3.mlp.up_proj". Error if it is no linear layer.
LinearShape linear_shape(const LlamaConfig& config, std::string_view layer);

struct WeightSpread {
    std::vector<double> edges, shares;  // of the weights between an edge and the next; edges has one more
    std::vector<double> centroids;      // empty where the layer is not packed
    double root_mean_square = 0;        // of those that are not packed
    int bits = 0;                       // of those that are
    int64_t block = 0;
};
// The share of each centroid over the cell that it stands for, in units of the blocks' scales.
WeightSpread spread(const PackedWeight& weight);
WeightSpread spread(const OnebitLinear& signs);
// Between four root mean squares on both sides; what is beyond is left out.
WeightSpread spread(std::span<const float> weights, size_t bins);
// Of a layer as it lies in a model's files. Errors: as those of reading it.
WeightSpread weight_spread(const ModelFiles& files, const LlamaConfig& config, const std::string& layer, size_t bins);

}  // namespace vkqat

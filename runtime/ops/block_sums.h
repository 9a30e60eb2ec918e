// Sums of neighbouring columns, and what zero points of blocks make of them.
#pragma once

#include <string>

#include "runtime/graph/graph.h"
#include "runtime/ops/packed_linear.h"

namespace vkqat {

// y[t, b] = sum of x[t, b * size .. (b + 1) * size - 1]. x f32 [tokens, dim] -> f32 [tokens, dim / size]. What a zero point that
// is the same for a block of weights adds to a product is a product with these. Not differentiable. Error: size does not divide
// dim.
Tensor block_sums(Graph& g, Tensor x, int64_t size, const std::string& name);

// What block_sums() of x are multiplied by for weights with zero points, below one another: (center - zero) * scale of each
// block, f32 [sum of out, in / block_size]. Error: shapes; a layer without zero points; more than 2^32 blocks.
Tensor block_offsets(Graph& g, const std::vector<PackedLayer>& layers, const std::vector<PackedAsymmetry>& of_blocks,
                     const std::string& name);

}  // namespace vkqat

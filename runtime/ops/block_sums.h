// Sums of neighbouring columns.
#pragma once

#include <string>

#include "runtime/graph/graph.h"

namespace vkqat {

// y[t, b] = sum of x[t, b * size .. (b + 1) * size - 1]. x f32 [tokens, dim] -> f32 [tokens, dim / size]. What a zero point that
// is the same for a block of weights adds to a product is a product with these. Not differentiable. Error: size does not divide
// dim.
Tensor block_sums(Graph& g, Tensor x, int64_t size, const std::string& name);

}  // namespace vkqat

// Sums of neighbouring columns.
#pragma once

#include <string>

#include "runtime/graph/graph.h"
#include "runtime/ops/fusion.h"

namespace vkqat {

// y[t, b] = sum of x[t, b * size .. (b + 1) * size - 1]. x f32 [tokens, dim] -> f32 [tokens, dim / size]. What a zero point that
// is the same for a block of weights adds to a product is a product with these. Not differentiable. Error: size does not divide
// dim.
Tensor block_sums(Graph& g, Tensor x, int64_t size, const std::string& name);

// For few tokens, in one operation: y[t, o] = residual[t, o] + sum over b of offsets[o, b] block_sums(norm(x))[t, b]. offsets f32
// [out, blocks]. Of `fusion` the norm and the residual. Blocks of whole 4 columns, rows of at most 24576. Error: shapes; SwiGLU.
bool can_block_offsets(const Capabilities& c, int64_t columns, int64_t blocks);
Tensor block_offsets(Graph& g, Tensor x, Tensor offsets, const LinearFusion& fusion, const std::string& name);

}  // namespace vkqat

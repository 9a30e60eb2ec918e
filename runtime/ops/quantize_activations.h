// Activations as 8-bit integers times a scale of each token (BitNet b1.58, arXiv 2402.17764).
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

// y = clamp(round(x a), -128, 127) / a, a = 127 / max(1e-5, max |x|) over each row, ties to even. x, y: f32 [tokens, dim].
// Straight-through: the gradient of x is that of y, without a node. A linear layer of BitNet is rms_norm, this, and a product
// with ternary weights that have one scale (trainer/quantizer.h: ternary, blocks of 0 x 0).
// strength f32 [1], may be absent: a number from 0 (y = x) to 1 (as above), read when the graph runs, so that quantization can be
// switched on in a recorded graph.
// Errors: x is absent or not f32 [tokens, dim].
Tensor quantize_activations(Graph& g, Tensor x, Tensor strength = {});

}  // namespace vkqat

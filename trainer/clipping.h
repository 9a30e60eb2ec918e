// Asymmetric clipping before quantization (BitDistiller, arXiv 2402.10631): for each output row and group of inputs, the bounds
// max (1 - i/20) and min (1 - j/20), i, j in 0..9, for which the quantized group's contribution to the layer's output has the
// smallest squared error over calibration tokens. The published code computes the outputs of every candidate; here the error is
// d^T G d with the group's Gram matrix G = X^T X, which is made once.
#pragma once

#include <span>
#include <string>

#include "trainer/quantizer.h"

namespace vkqat {

constexpr int64_t most_clip_group = 1024;

// gram, f32 [cols / group, group, group], from the inputs x, f32 [tokens, cols], of a layer. Error unless `group` divides cols.
void gram_blocks(Graph& g, Tensor x, Tensor gram);

// bounds f32 [out, in / group, 2] (smallest, largest) and error, of the same shape (without and with clamping), of a weight f32
// [out, in]. config: int_asym or nf with blocks of `group` columns, at most most_clip_group. Errors name `layer`.
void search_clipping(Graph& g, Tensor w, Tensor gram, Tensor bounds, Tensor error, const QuantizerConfig& config,
                     const std::string& layer);

// Clamps a weight [out, in] to the bounds of its groups, in place.
void clip_weights(std::span<float> weight, std::span<const float> bounds, int64_t group);

}  // namespace vkqat

// Root-mean-square layer norm.
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

// y = x / sqrt(mean(x^2) + eps) * weight over each row. x: f32 [tokens, dim]; weight: f32, f16 or bf16 [dim]; y: [tokens, dim] in
// `type`: f32, or with an f32 weight f16 or bf16, for products that round it anyway. Gradients of x and weight; the weight's is
// summed over tokens in an order that does not depend on the device's timing. Errors: shapes or types that do not fit, eps that
// is negative or not finite.
Tensor rms_norm(Graph& g, Tensor x, Tensor weight, float eps, DType type = DType::f32);

}  // namespace vkqat

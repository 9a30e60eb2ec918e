// A linear layer whose weight is a sign matrix between two vectors (OneBit, arXiv 2402.11295).
#pragma once

#include <string>
#include <vector>

#include "runtime/graph/graph.h"

namespace vkqat {

// The layer norm over the outputs has no learned parameters and this eps.
constexpr float onebit_norm_eps = 1e-5f;

struct OnebitPart {
    Tensor sign;           // -1, 0 or 1: f32, f16 or bf16 [out, in]
    Tensor input_factor;   // f32, f16 or bf16 [in]
    Tensor output_factor;  // f32, f16 or bf16 [out]
};

// y = LN(((x * input_factor) sign^T) * output_factor). x f32 [tokens, in] -> f32 [tokens, sum of out]: the outputs of several
// parts (q, k, v), each with a norm of its own, stand side by side. Gradients of x, sign and both factors; that of the weight
// behind the sign follows from the sign's (trainer/quantizer.h: onebit).
// Errors: shapes or types that do not fit, no part.
Tensor onebit_linear(Graph& g, Tensor x, const std::vector<OnebitPart>& parts, const std::string& name);

// Its pieces, for weights that stay packed.
// y = x * factor by column. x, y f32 [tokens, dim], factor f32, f16 or bf16 [dim]. Not differentiable.
Tensor scale_columns(Graph& g, Tensor x, Tensor factor, const std::string& name);
// LN(u * factor) into the columns from first_column on of y, f32 [tokens, any]. u f32 [tokens, out]. Not differentiable.
void onebit_norm_into(Graph& g, Tensor u, Tensor factor, Tensor y, int64_t first_column, Tensor statistics,
                      const std::string& name);

// Behind the products of one to three sign matrices: LN(u * factors) of each part by itself, + residual, or silu(first) * second
// of two equal parts. u f32 [tokens, sum of rows], factors f32 [sum of rows] -> f32 [tokens, sum of rows, or rows[0]]. Where the
// product was made with an RMS norm that is none of the model's, x f32 [tokens, in] is its input and input_eps its eps: the
// norm's factor is undone. Not differentiable. Errors: shapes.
struct OnebitOutput {
    Tensor residual = {};
    bool swiglu = false;
    Tensor x = {};
    float input_eps = 0;
};
Tensor onebit_output(Graph& g, Tensor u, Tensor factors, const std::vector<int64_t>& rows, const OnebitOutput& options,
                     const std::string& name);

}  // namespace vkqat

// Matrix products of linear layers. Weights are [out, in]: y = x W^T.
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

// y [tokens, out] f32 = x [tokens, in] f32 * weight^T, weight [out, in] f32|f16|bf16. Differentiable in both.
Tensor linear(Graph& g, Tensor x, Tensor weight, const std::string& name);

// The three products that training needs, c = base + a * b, base absent or of c's shape (it may be c). a, c f32.
enum class Product {
    nt,  // c [m, n] = a [m, k] b^T, b [n, k] f32|f16|bf16    forward
    nn,  // c [m, n] = a [m, k] b,   b [k, n] f32|f16|bf16    gradient of the input
    tn,  // c [m, n] = a^T b,        a [k, m], b [k, n] f32   gradient of the weight
};
void matmul(Graph& g, Product product, Tensor a, Tensor b, Tensor base, Tensor c, const std::string& label);

}  // namespace vkqat

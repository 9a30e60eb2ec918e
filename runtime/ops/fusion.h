// What a decoding step folds into a linear layer's product: fewer, larger dispatches.
#pragma once

#include <functional>
#include <string>

#include "runtime/graph/graph.h"

namespace vkqat {

struct LinearFusion {
    Tensor norm = {};  // weight of an RMS norm of x, f32|f16|bf16 [in]
    float eps = 0;
    Tensor residual = {};  // f32 [tokens, out], added to the product
    bool swiglu = false;   // two equal parts, gate and up: y = silu(gate) * up
};

// The same by separate operations: `product` gets x behind the norm, and the residual where there is no SwiGLU.
Tensor unfused(Graph& g, Tensor x, const LinearFusion& fusion, const std::string& label,
               const std::function<Tensor(Tensor x, Tensor residual)>& product);

// How a matrix-vector kernel is laid out: what measurements force; 0: chosen by the shape and the device.
struct MatvecTuning {
    uint32_t width = 0;   // invocations of a workgroup
    uint32_t tiles = 0;   // packed: quads of rows of a workgroup; ternary: tiles; dense: rows of a subgroup
    uint32_t depth = 0;   // loads of weights on their way
    uint32_t copies = 0;  // packed: of the table in shared memory
    uint32_t slab = 0;    // columns of x in shared memory
    uint32_t chunks = 0;  // packed: runs of a lane
    uint32_t split = 0;   // dense: subgroups that share rows
    int staged = -1;      // dense: x through shared memory (1) or read from the caches by every subgroup (0)
};

// What NORM of shaders/ops/linear_input.glsl says.
inline uint32_t norm_kind(Tensor norm) {
    if (!norm) return 0;
    if (!is_float(norm.dtype())) fail("a norm weight cannot be {}", name(norm.dtype()));
    return norm.dtype() == DType::f32 ? 1 : norm.dtype() == DType::f16 ? 2 : 3;
}

}  // namespace vkqat

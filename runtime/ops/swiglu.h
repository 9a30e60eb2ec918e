// The gated activation of Llama's MLP.
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

// y = silu(gate) * up, silu(x) = x / (1 + exp(-x)). gate, up: f32 [tokens, ffn]; y likewise.
// Errors: shapes or types that do not fit; gate and up being one tensor.
Tensor swiglu(Graph& g, Tensor gate, Tensor up);

// The same with both in one tensor: gate_up f32 [tokens, 2 * ffn], gate in the first ffn columns; y: [tokens, ffn] in `type`. In
// f16 or bf16, for products that round it anyway, the backward pass also works on a copy of gate_up in that type, so that
// gate_up itself need not stay.
Tensor swiglu(Graph& g, Tensor gate_up, DType type = DType::f32);

}  // namespace vkqat

// The gated activation of Llama's MLP.
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

// y = silu(gate) * up, silu(x) = x / (1 + exp(-x)). gate, up: f32 [tokens, ffn]; y likewise.
// Errors: shapes or types that do not fit; gate and up being one tensor.
Tensor swiglu(Graph& g, Tensor gate, Tensor up);

// The same with both in one tensor: gate_up f32 [tokens, 2 * ffn], gate in the first ffn columns; y: f32 [tokens, ffn].
Tensor swiglu(Graph& g, Tensor gate_up);

}  // namespace vkqat

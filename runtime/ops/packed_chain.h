// What lies between the attention of one layer and that of the next, in one dispatch, for one token: o, gate, up, down, q, k, v
// with norms, residuals and SwiGLU. Its workgroups wait for one another instead of for the end of dispatches.
#pragma once

#include "runtime/ops/packed_linear.h"

namespace vkqat {

// h = residual + o attended; h += down swiglu(gate_up rms_norm(h, mlp_norm)); qkv = qkv rms_norm(h, next_norm).
struct PackedChainWeights {
    PackedLayer o, gate_up, down;  // [hidden, attended], [inner; inner, hidden], [hidden, inner]
    Tensor mlp_norm;               // f32|f16|bf16 [hidden]
    Tensor next_norm = {};         // of the next layer, as mlp_norm; absent: there is none
    PackedLayer qkv = {};          // [q; kv; kv, hidden]
    float eps = 0;
};

// What measurements force; 0: chosen.
struct PackedChainTuning {
    uint32_t workgroups = 0;
    uint32_t chunks = 0;    // runs of 32 columns of a lane
    uint32_t patience = 0;  // how often what others hand on is looked for
};

// Whether packed_chain() can run and is faster than five dispatches.
bool has_packed_chain(const Graph& g, const PackedChainWeights& w);

// What the chains of a graph share. handed_on: u32 [3, packed_chain_words()], all bits set before the first run, and again after
// each. in_vain: u32 [1], also of the host: not 0 after an invocation has waited for what others hand on in vain, for
// some tenths of a second; results since then are wrong.
struct PackedChainMemory {
    Tensor handed_on, in_vain;
};
int64_t packed_chain_words(int64_t hidden, int64_t inner);

struct PackedChained {
    Tensor hidden;  // f32 [1, hidden]
    Tensor qkv;     // f32 [1, q + 2 kv], or absent
};
// Chain `number` of the `count` that the graph runs in this order, at least two.
// attended: f32 [1, attended]; residual: f32 [1, hidden]. Arithmetic as that of
// PackedLinearVariant::matvec, but that fp16 activations have a power of two for each eight columns at first.
// Error if a shape does not fit, or what a workgroup needs is not there.
PackedChained packed_chain(Graph& g, Tensor attended, Tensor residual, const PackedChainWeights& w,
                           const PackedChainMemory& memory, uint32_t number, uint32_t count,
                           const PackedChainTuning& tuning = {});

}  // namespace vkqat

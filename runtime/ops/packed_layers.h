// All layers of a Llama with packed weights for one token of one sequence, in one dispatch, whose workgroups wait for one another
// instead of for the end of dispatches.
#pragma once

#include <vector>

#include "runtime/ops/kv_cache.h"
#include "runtime/ops/packed_linear.h"

namespace vkqat {

// All layers have the same shapes, bits and blocks.
struct PackedLayersModel {
    struct Layer {
        Tensor attention_norm, mlp_norm;    // f32|f16|bf16 [hidden]
        PackedLayer qkv, o, gate_up, down;  // [q; kv; kv, hidden], [hidden, q], [inner; inner, hidden], [hidden, inner]
        Tensor cache_k, cache_v;            // f16|bf16 [max_positions, kv_heads * head_dim]
    };
    std::vector<Layer> layers;
    HeadShape shape;
    int64_t max_positions = 0;
    float eps = 0;
    Tensor rope_table;  // f32 [table positions, head_dim]; a position beyond it is taken as its last
    Tensor position;    // u32 [1]: of the token; from max_positions on the sequence is not active: nothing is written
};

// What runs of the operation share. handed_on: u32 [packed_layers_words()], all bits set before the first run. turn: u32 [1], 0
// before the first run. in_vain: u32 [1], also of the host: not 0 after an invocation has waited for what others hand on in vain,
// for some tenths of a second; results since then are wrong.
struct PackedLayersMemory {
    Tensor handed_on, turn, in_vain;
};
int64_t packed_layers_words(const HeadShape& shape, int64_t hidden, int64_t inner);

// What measurements and tests force; 0: chosen.
struct PackedLayersTuning {
    uint32_t workgroups = 0;
    uint32_t lanes = 0;     // of a workgroup: a multiple of 32
    uint32_t chunks = 0;    // runs of 32 columns of a lane
    uint32_t parts = 0;     // of the context, at most
    uint32_t shortest = 0;  // keys of a part, at least
    uint32_t patience = 0;  // how often what others hand on is looked for
};

// Up to how many cached positions it is faster than five dispatches a layer, whose attention shares keys among heads: where each
// head has two workgroups (31B) 7,600 on an H200, where it has four (12B) 19,000 (from times at 4,000 and 11,000).
int64_t packed_layers_keys(const Capabilities& device, uint32_t heads);

// Whether packed_layers() can run.
bool has_packed_layers(const Graph& g, const PackedLayersModel& model);

// For each layer: h += o attention(rope(qkv rms_norm(h, attention_norm))), whose new k and v go to the caches, then
// h += down swiglu(gate_up rms_norm(h, mlp_norm)). embedded: f32 [1, hidden], the first h -> f32 [1, hidden], the last.
// Arithmetic as that of PackedLinearVariant::matvec, but that fp16 activations have a power of two for each eight columns at
// first, and decode_attention(). Error if a shape does not fit, or what a workgroup needs is not there.
Tensor packed_layers(Graph& g, Tensor embedded, const PackedLayersModel& model, const PackedLayersMemory& memory,
                     const PackedLayersTuning& tuning = {});

}  // namespace vkqat

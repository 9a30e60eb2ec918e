#ifndef VKQAT_ARGS_PACKED_LAYERS_H
#define VKQAT_ARGS_PACKED_LAYERS_H
#include "args.h"
ARGS_BEGIN

// All layers of a model for one token. Weights in the tiled layout of runtime/ops/packed_linear.h.
struct PackedLayersArgs {
    ADDRESSES(8)
    ADDRESS table;     // u64 [layers, 16]: indices, scales, centroids of q k v, o, gate and up, down; norms of attention and MLP,
                       // [hidden]; keys, values [max_positions, kv heads * head_dim]
    ADDRESS embedded;  // f32 [hidden]
    ADDRESS hidden;    // f32 [hidden]
    ADDRESS rope;      // f32 [rope_positions, head_dim]: cosines, then sines
    ADDRESS position;  // u32 [1]; from max_positions on: not active
    ADDRESS handed_on;  // u32 [3, words]: what steps hand on (handed_on.glsl)
    ADDRESS turn;       // u32 [1]: which third of it is the first layer's
    ADDRESS in_vain;    // u32 [1]: set once an invocation waited in vain
    // For each of the steps q k v, o, gate, up, down: runs of a row and, times 2^16, rows of a workgroup; parts and, times 2^16,
    // groups (packed_layers.comp); rows of the matrix; its first quad.
    ARG_UINT steps[20];
    ARG_UINT layers, max_positions, rope_positions;
    ARG_FLOAT eps;
    ARG_FLOAT scale;  // of the scores, with log2(e)
};

ARGS_END

#endif

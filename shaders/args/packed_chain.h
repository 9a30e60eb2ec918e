#ifndef VKQAT_ARGS_PACKED_CHAIN_H
#define VKQAT_ARGS_PACKED_CHAIN_H
#include "args.h"
ARGS_BEGIN

// What lies between the attention of one layer and that of the next, for one token. Weights in the tiled layout of
// runtime/ops/packed_linear.h.
struct PackedChainArgs {
    ADDRESSES(21)
    ADDRESS attended;  // f32 [attended]
    ADDRESS residual;  // f32 [hidden]
    ADDRESS hidden;    // f32 [hidden]: residual + o, then + down
    ADDRESS o_indices, o_scales, o_centroids;
    ADDRESS mlp_norm;                                              // [hidden]
    ADDRESS gate_up_indices, gate_up_scales, gate_up_centroids;
    ADDRESS down_indices, down_scales, down_centroids;
    ADDRESS next_norm, qkv_indices, qkv_scales, qkv_centroids;     // of the next layer, or 0
    ADDRESS qkv;                                                   // f32 [q + 2 kv], or 0
    ADDRESS handed_on;  // u32, all bits set: what steps hand on (packed_chain.comp)
    ADDRESS cleared;    // the same of the next chain: is made so
    ADDRESS in_vain;    // u32 [1]: set once an invocation waited in vain
    ARG_FLOAT eps;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_PACKED_CHAIN_H
#define VKQAT_ARGS_PACKED_CHAIN_H
#include "args.h"
ARGS_BEGIN

// What lies between the attention of one layer and that of the next, for one token. Weights in the tiled layout of
// runtime/ops/packed_linear.h.
struct PackedChainArgs {
    ADDRESSES(21)
    ADDRESS attended;             // f32 [attended]
    ADDRESS residual;             // f32 [hidden]
    ADDRESS hidden;               // f32 [hidden]: residual + o, then + down
    ADDRESS mlp_norm, next_norm;  // [hidden]; that of the next layer, or 0
    ADDRESS qkv;                  // f32 [q + 2 kv], or 0
    ADDRESS handed_on;            // u32, all bits set: what steps hand on (packed_chain.comp)
    ADDRESS cleared;              // the same of the next chain: is made so
    ADDRESS in_vain;              // u32 [1]: set once an invocation waited in vain
    ADDRESS weights[12];          // indices, scales, centroids of o, of gate and up, of down, of q, k, v (or 0)
    // For each of the five steps: runs of a row and, times 2^16, rows of a workgroup; 2^16 / parts + 1, parts times 2^17 and groups
    // times 2^23 (packed_chain.comp); rows of the matrix; its first quad.
    ARG_UINT steps[20];
    ARG_FLOAT eps;
};

ARGS_END

#endif

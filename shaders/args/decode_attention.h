#ifndef VKQAT_ARGS_DECODE_ATTENTION_H
#define VKQAT_ARGS_DECODE_ATTENTION_H
#include "args.h"
ARGS_BEGIN

// One new token of each sequence: rotation of q and k, the write of k and v into the cache, attention over the cache.
struct DecodeAttentionArgs {
    ADDRESSES(10)
    ADDRESS qkv;                 // f32 [sequences, (heads + 2 * kv_heads) * head_dim], not rotated
    ADDRESS table;               // f32 [table_positions, head_dim]: cosines, then sines
    ADDRESS positions;           // u32 [sequences]; from max_positions on: not active
    ADDRESS cache_k, cache_v;    // [sequences * max_positions, kv_heads * head_dim]
    ADDRESS scales_k, scales_v;  // f32 [sequences * kv_heads, max_positions], of 8-bit caches
    ADDRESS counters;            // u32 [sequences * heads / HEADS], 0 between dispatches; of the fused variant
    ADDRESS partial;  // f32 [sequences, heads, PARTS, head_dim], then [sequences, heads, PARTS, 2]: sums, top and sum of weights
    ADDRESS y;        // f32 [sequences, heads * head_dim]
    ARG_UINT heads, kv_heads, max_positions, table_positions;
    ARG_FLOAT scale;  // of the scores, with log2(e)
};

// The second dispatch where there is no fused variant.
struct CombineDecodeAttentionArgs {
    ADDRESSES(3)
    ADDRESS positions;
    ADDRESS partial;
    ADDRESS y;
    ARG_UINT heads, max_positions;
};

ARGS_END

#endif

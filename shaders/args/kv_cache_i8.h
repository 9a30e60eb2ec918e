#ifndef VKQAT_ARGS_KV_CACHE_I8_H
#define VKQAT_ARGS_KV_CACHE_I8_H
#include "args.h"
ARGS_BEGIN

// Rows of qkv to an 8-bit cache, from position start on.
struct StoreKvI8Args {
    ADDRESSES(7)
    ADDRESS qkv;                 // f32 [tokens, (heads + 2 * kv_heads) * head_dim]
    ADDRESS start, count;        // u32 [1]; count: valid rows, or 0
    ADDRESS cache_k, cache_v;    // i8 [max_positions, kv_heads * head_dim]
    ADDRESS scales_k, scales_v;  // f32 [kv_heads, max_positions]
    ARG_UINT tokens, heads, kv_heads, head_dim, max_positions;
};

// Positions 0 .. start + count - 1 of an 8-bit cache as floats.
struct UnpackKvArgs {
    ADDRESSES(8)
    ADDRESS start, count;
    ADDRESS cache_k, cache_v;
    ADDRESS scales_k, scales_v;
    ADDRESS k, v;  // f32 or f16 [max_positions, kv_heads * head_dim]
    ARG_UINT tokens, kv_heads, head_dim, max_positions;
};

ARGS_END
#endif

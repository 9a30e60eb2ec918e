#ifndef VKQAT_ARGS_KV_CACHE_H
#define VKQAT_ARGS_KV_CACHE_H
#include "args.h"
ARGS_BEGIN

// Rows of qkv to the cache, from position start on.
struct StoreKvArgs {
    ADDRESSES(5)
    ADDRESS qkv;               // f32 [tokens, (heads + 2 * kv_heads) * head_dim]
    ADDRESS start, count;      // u32 [1]; count: valid rows, or 0
    ADDRESS cache_k, cache_v;  // [max_positions, kv_heads * head_dim]
    ARG_UINT tokens, q_cols, kv_cols, max_positions;
};

// Attention of `tokens` queries at positions start + row over keys 0 .. start + row of the cache.
struct CachedAttentionArgs {
    ADDRESSES(6)
    ADDRESS qkv;
    ADDRESS start, count;
    ADDRESS cache_k, cache_v;
    ADDRESS y;  // f32 [tokens, heads * head_dim]; of the split kernel with several splits: partial sums
    ARG_UINT tokens, heads, kv_heads, max_positions;
    ARG_UINT splits, shortest;  // the context is cut into at most `splits` parts of at least `shortest` keys
    float scale;
};

// partial f32 [tokens, heads, splits, head_dim + 2]: sum of exp2(score - top) * v; then top and the sum of exp2(score - top)
struct CombineAttentionArgs {
    ADDRESSES(4)
    ADDRESS partial;
    ADDRESS start, count;
    ADDRESS y;
    ARG_UINT tokens, heads, head_dim, max_positions;
    ARG_UINT splits, shortest;
};

// position += count (or 1)
struct AdvanceArgs {
    ADDRESSES(2)
    ADDRESS count, position;
};

ARGS_END

#endif

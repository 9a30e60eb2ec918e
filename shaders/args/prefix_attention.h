#ifndef VKQAT_ARGS_PREFIX_ATTENTION_H
#define VKQAT_ARGS_PREFIX_ATTENTION_H
#include "args.h"
ARGS_BEGIN

// Rows of qkv: q heads, k heads, v heads, each of head_dim. Query i sees the keys first[i] .. i without skip_from[i] ..
// skip_to[i] - 1.
struct PrefixAttentionArgs {
    ADDRESSES(5)
    ADDRESS qkv;        // f32 [tokens, (heads + 2 * kv_heads) * head_dim]
    ADDRESS first;      // i32 [tokens], never decreasing
    ADDRESS skip_from;  // i32 [tokens]
    ADDRESS skip_to;    // i32 [tokens]
    ADDRESS y;          // f32 [tokens, heads * head_dim]
    ARG_UINT tokens, heads, kv_heads;
    float scale;
};

ARGS_END

#endif

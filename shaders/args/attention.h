#ifndef VKQAT_ARGS_ATTENTION_H
#define VKQAT_ARGS_ATTENTION_H
#include "args.h"
ARGS_BEGIN

// Training attention. Rows of qkv: q heads, k heads, v heads, each of head_dim.
struct AttentionArgs {
    ADDRESSES(5)
    ADDRESS qkv;             // f32 [batch * seq_len, (heads + 2 * kv_heads) * head_dim]
    ADDRESS document_start;  // i32 [batch, seq_len], or 0
    ADDRESS document_end;    // i32 [batch, seq_len], or 0
    ADDRESS y;               // f32 [batch * seq_len, heads * head_dim]
    ADDRESS lse;             // f32 [batch, heads, seq_len]: log2 of the sum of exponentials of the scaled scores
    ARG_UINT seq_len, heads, kv_heads;
    float scale;
};

struct AttentionGradientArgs {
    ADDRESSES(9)
    ADDRESS qkv, document_start, document_end;
    ADDRESS y;  // read by the q pass only
    ADDRESS lse;
    ADDRESS dy;     // f32, as y
    ADDRESS delta;  // f32 [batch, heads, seq_len]: sum of dy * y over head_dim; the q pass writes it, the kv pass reads it
    ADDRESS base;   // f32, as qkv, or 0
    ADDRESS dqkv;   // base + gradient
    ARG_UINT seq_len, heads, kv_heads;
    float scale;
};

ARGS_END

#endif

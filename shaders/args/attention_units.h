#ifndef VKQAT_ARGS_ATTENTION_UNITS_H
#define VKQAT_ARGS_ATTENTION_UNITS_H
#include "args.h"
ARGS_BEGIN

// Training attention on matrix units; as in args/attention.h, with the type of the products for what products read.
struct AttentionUnitsArgs {
    ADDRESSES(5)
    ADDRESS x;               // f16 or bf16 [batch * seq_len, (heads + 2 * kv_heads) * head_dim]
    ADDRESS document_start;  // i32 [batch, seq_len], or 0
    ADDRESS document_end;    // i32 [batch, seq_len], or 0
    ADDRESS y;               // f32, or with ROUNDED as x [batch * seq_len, heads * head_dim]
    ADDRESS lse;             // f32 [batch, heads, seq_len], or 0
    ARG_UINT seq_len, heads, kv_heads;
    ARG_FLOAT scale;
};

// delta = sum(dy * y) over each head, and dy in the type of the products.
struct AttentionDeltaArgs {
    ADDRESSES(4)
    ADDRESS y;                      // f32, or with ROUNDED as dy16 [batch * seq_len, heads * head_dim]
    ADDRESS dy;                     // f32
    ADDRESS dy16;                   // f16 or bf16
    ADDRESS delta;                  // f32 [batch, heads, seq_len]
    ARG_UINT seq_len, heads, rows;  // rows: batch * seq_len * heads
};

struct AttentionUnitsGradientArgs {
    ADDRESSES(8)
    ADDRESS x, document_start, document_end;
    ADDRESS dy16, lse, delta;
    ADDRESS base;  // f32, as dqkv, or 0
    ADDRESS dqkv;  // f32 [batch * seq_len, (heads + 2 * kv_heads) * head_dim] = base + gradient
    ARG_UINT seq_len, heads, kv_heads;
    ARG_FLOAT scale;
};

ARGS_END

#endif

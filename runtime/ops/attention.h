// Causal attention with grouped queries over sequences that may hold several documents (block-causal), for training: with an
// online softmax, so no [tokens, tokens] matrix exists.
#pragma once

#include <optional>

#include "runtime/ops/attention_units.h"

namespace vkqat {

struct AttentionShape {
    uint32_t batch = 1, seq_len = 0;   // seq_len: tokens of each sequence
    uint32_t heads = 0, kv_heads = 0;  // heads is a multiple of kv_heads; head h reads kv head h / (heads / kv_heads)
    uint32_t head_dim = 0;             // even, 2 .. 256
    uint32_t qkv_cols() const { return (heads + 2 * kv_heads) * head_dim; }
    uint32_t out_cols() const { return heads * head_dim; }
};

// How the kernels divide their work (shaders/ops/attention.glsl).
struct AttentionTile {
    uint32_t split = 1;  // lanes that share a row: a power of two; 1, or a divisor of head_dim / 4
    uint32_t rows = 1;   // rows of each lane
    uint32_t step = 8;   // rows of the other side per iteration
    uint32_t ways = 0;   // of dk and dv: subgroups that share the queries, at most 8; 0: more where there are few keys
};
AttentionTile attention_tile(const Capabilities& device, uint32_t head_dim, bool backward);

// What tests and measurements force; a variant or a block that does not fit is an Error.
struct AttentionOptions {
    AttentionVariant variant = AttentionVariant::automatic;
    AttentionTile tile = {.split = 0};                                              // portable: 0 split: the device's own
    std::optional<AttentionBlock> forward = {}, gradient_q = {}, gradient_kv = {};  // matrix units
};

// The type to which attention rounds qkv before all else: f16 or bf16 where it runs on matrix units, else f32.
DType attention_type(const Graph& g, const AttentionShape& shape, const AttentionOptions& options = {});

// y = softmax(q k^T / sqrt(head_dim), over the keys that the query sees) v.
// qkv [batch * seq_len, qkv_cols()] f32, or in attention_type(): each row holds the q heads, the k heads, the v heads; q and k
// already rotated.
// document_start [batch, seq_len] i32: where in its sequence the document of that position begins; query i sees the keys
// document_start[i] .. i. document_end [batch, seq_len] i32: where that document ends (exclusive). Documents follow one another,
// so both never decrease. Both absent: a sequence is one document.
// -> [batch * seq_len, out_cols()] in the type of qkv; the gradient of qkv is f32 in any case. Error if a shape does not fit; on
// matrix units also if 16-bit qkv or a gradient does not start at a multiple of 16 bytes.
Tensor attention(Graph& g, Tensor qkv, const AttentionShape& shape, Tensor document_start = {}, Tensor document_end = {},
                 const AttentionOptions& options = {});

}  // namespace vkqat

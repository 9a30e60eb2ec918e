// The key-value cache of a layer, and attention over it (inference). Where the rows stand is read from a device buffer, so that a
// recorded graph serves every position.
#pragma once

#include "runtime/ops/attention_units.h"

namespace vkqat {

struct HeadShape {
    uint32_t heads = 0, kv_heads = 0;  // heads is a multiple of kv_heads; head h reads kv head h / (heads / kv_heads)
    uint32_t head_dim = 0;             // even, 2 .. 256
};

// In all of these: qkv [tokens, (heads + 2 * kv_heads) * head_dim] f32, rotated; cache_k, cache_v [max_positions,
// kv_heads * head_dim], both f32, f16 or bf16; start [1] u32: the position of row 0; count [1] u32: rows that are valid (a
// prefill chunk may be filled in part), absent: all. Errors name the tensor whose shape does not fit.

// Writes the k and v of the valid rows to rows start .. of the cache. Rows beyond max_positions are dropped.
void store_kv(Graph& g, Tensor qkv, Tensor cache_k, Tensor cache_v, Tensor start, const HeadShape& shape, Tensor count = {});

// What tests and measurements force; a variant or a block that does not fit is an Error.
struct CachedAttentionOptions {
    AttentionVariant variant = AttentionVariant::automatic;
    std::optional<AttentionBlock> block = {};  // matrix units
};

// Row i attends to positions 0 .. start + i of the cache, which store_kv has filled. -> [tokens, heads * head_dim] f32; rows that
// are not valid are 0. Few tokens (decode) are computed in parts of the context that are then combined. Prompts
// are computed on matrix units where the graph's precision allows, the device has them and choose_attention() finds a block; the
// queries are rounded to that precision, or to f16 where the cache is f16.
Tensor cached_attention(Graph& g, Tensor qkv, Tensor cache_k, Tensor cache_v, Tensor start, const HeadShape& shape,
                        Tensor count = {}, const CachedAttentionOptions& options = {});

// position [1] u32 += count, or 1: after the last reader of the step. (sample() does this itself.)
void advance_position(Graph& g, Tensor position, Tensor count = {});

}  // namespace vkqat

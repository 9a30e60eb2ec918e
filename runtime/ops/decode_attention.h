// The attention node of decoding: one dispatch rotates the new token's q and k, writes its k and v into the cache, attends to the
// cache, cut into parts along the context, and joins the parts. Positions are read on the device: a recorded graph serves all.
#pragma once

#include <optional>

#include "runtime/graph/graph.h"
#include "runtime/ops/kv_cache.h"

namespace vkqat {

// How the work is spread. decode_attention_tuning() chooses for the device.
struct DecodeAttentionTuning {
    uint32_t subgroups = 1;  // of a workgroup; 1 uses no shared memory and no barrier
    uint32_t split = 1;      // lanes that share a key, a power of two
    uint32_t heads = 1;      // that a workgroup computes together; divides heads / kv_heads
    uint32_t step = 1;       // keys of a lane at once
    uint32_t parts = 1;      // of the context, at most
    uint32_t shortest = 64;  // keys of a part, at least
    bool ahead = false;      // the next keys are loaded before the values are used
};
DecodeAttentionTuning decode_attention_tuning(const Capabilities& device, const HeadShape& shape, DType cache, int64_t sequences,
                                              int64_t max_positions);

struct DecodeAttentionOptions {
    // u32 [decode_attention_counters()], 0 before the first run; every run leaves it 0, so that all layers share it. Absent, or
    // on a device without Vulkan's memory model: a second dispatch joins the parts.
    Tensor counters = {};
    // 8-bit caches only: f32 [sequences * kv_heads, max_positions].
    Tensor scales_k = {}, scales_v = {};
    std::optional<DecodeAttentionTuning> tuning = {};
};

// Enough for every tuning.
inline int64_t decode_attention_counters(int64_t sequences, const HeadShape& shape) { return sequences * shape.heads; }

// Each row is the new token of a sequence of its own.
// qkv: f32 [sequences, (heads + 2 * kv_heads) * head_dim], not rotated. rope_table: f32 [table positions, head_dim] of
// rope_table(); a position beyond it is taken as its last. positions: u32 [sequences]: where the row's token stands; rows
// 0 .. position - 1 of its cache are there already. From max_positions on (UINT32_MAX by convention) the sequence is not active:
// nothing is written for it and its result is 0.
// cache_k, cache_v: [sequences * max_positions, kv_heads * head_dim] of one type: f32, f16, bf16, or i8, which holds each head's
// vector of a position as integers of -127 .. 127 times the scale, largest magnitude / 127.
// -> f32 [sequences, heads * head_dim]. The same inputs give the same bits.
// Errors name the tensor whose shape or type does not fit.
Tensor decode_attention(Graph& g, Tensor qkv, Tensor rope_table, Tensor cache_k, Tensor cache_v, Tensor positions,
                        const HeadShape& shape, int64_t max_positions, const DecodeAttentionOptions& options = {});

}  // namespace vkqat

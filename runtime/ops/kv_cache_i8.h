// An 8-bit key-value cache for prompts. Each head's vector of a position is kept as integers of -127 .. 127 times a scale,
// largest magnitude / 127, as decode_attention() writes it.
#pragma once

#include "runtime/ops/kv_cache.h"

namespace vkqat {

// k, v: i8 [max_positions, kv_heads * head_dim]; scales_k, scales_v: f32 [kv_heads, max_positions].
struct CacheI8 {
    Tensor k, v, scales_k, scales_v;
};

// As store_kv() of kv_cache.h, into an 8-bit cache.
void store_kv(Graph& g, Tensor qkv, const CacheI8& cache, Tensor start, const HeadShape& shape, Tensor count = {});

// As cached_attention() of kv_cache.h. What is cached is unpacked first, to f16 on GPUs and f32 on CPUs: memory of a layer's
// cache in that type, which all layers of a graph share.
Tensor cached_attention(Graph& g, Tensor qkv, const CacheI8& cache, Tensor start, const HeadShape& shape, Tensor count = {});

}  // namespace vkqat

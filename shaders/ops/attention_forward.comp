#version 460
//! variant attention_forward
//! variant cached_attention_f32 CACHE=f32 CACHE_BYTES=4
//! variant cached_attention_f16 CACHE=f16 CACHE_BYTES=2
//! variant cached_attention_bf16 CACHE=bf16 CACHE_BYTES=2
// Causal attention with online softmax: a lane (or SPLIT lanes) per query and head, keys in a loop. Grid: (tiles of queries,
// heads, batch). The longest tiles come first. With CACHE: keys and values come from the cache, queries stand at start + row.
#include "ops/attention.glsl"
#ifdef CACHE
#include "args/kv_cache.h"
layout(push_constant, scalar) uniform Push { CachedAttentionArgs a; };
#define ROW_COUNT a.tokens
#else
#include "args/attention.h"
layout(push_constant, scalar) uniform Push { AttentionArgs a; };
#define ROW_COUNT a.seq_len
#define CACHE f32
#define CACHE_BYTES 4
#define TRAINING
#endif

void main() {
    const uint lane = gl_SubgroupInvocationID;
    const uint part = SPLIT == 1 ? 0 : lane % SPLIT;
    const uint slot = SPLIT == 1 ? lane : lane / SPLIT;
    const uint head = gl_WorkGroupID.y, batch = gl_WorkGroupID.z;
    const uint first = ((ROW_COUNT + TILE - 1) / TILE - 1 - gl_WorkGroupID.x) * TILE;
    const uint stride = (a.heads + 2 * a.kv_heads) * HEAD_DIM * 4;  // bytes
    const uint64_t sequence = a.qkv + uint64_t(batch) * ROW_COUNT * stride;
    const uint kv_head = head / (a.heads / a.kv_heads);
#ifdef TRAINING
    const uint position = 0;
    const uint end = min(first + TILE, a.seq_len);  // of the keys
    const uint kv_stride = stride;
    const uint64_t keys = sequence + (a.heads + kv_head) * HEAD_DIM * 4;
    const uint64_t values = keys + a.kv_heads * HEAD_DIM * 4;
    const uint64_t starts = a.document_start + uint64_t(batch) * a.seq_len * 4;
#else
    const uint position = U32(a.start).v[0];  // of row 0
    uint count = a.tokens;
    if (COUNTED) count = min(U32(a.count).v[0], a.tokens);
    const uint end = clamp(position + min(first + TILE, count), 1, a.max_positions);
    const uint kv_stride = a.kv_heads * HEAD_DIM * CACHE_BYTES;
    const uint64_t keys = a.cache_k + kv_head * HEAD_DIM * CACHE_BYTES;
    const uint64_t values = a.cache_v + kv_head * HEAD_DIM * CACHE_BYTES;
#endif

    vec4 q[ROWS * CHUNKS], acc[ROWS * CHUNKS];
    uint query[ROWS], start[ROWS];
    float top[ROWS], sum[ROWS];
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        const uint row = min(first + slot + r * PER_ROW, ROW_COUNT - 1);
        query[r] = min(position + row, end - 1);
        start[r] = 0;
#ifdef TRAINING
        if (DOCUMENTS) start[r] = uint(I32(starts).v[row]);
#endif
        top[r] = -1e30;
        sum[r] = 0;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            q[r * CHUNKS + i] = load_chunk(sequence + uint64_t(row) * stride + head * HEAD_DIM * 4, i, part) * (a.scale * LOG2E);
            acc[r * CHUNKS + i] = vec4(0);
        }
    }
    uint key = 0;
#ifdef TRAINING
    // Documents follow one another: the tile's first query has the earliest start.
    if (DOCUMENTS) key = min(uint(I32(starts).v[first]), first);
#endif
    do {
        float s[ROWS * STEP];
        UNROLL for (uint n = 0; n < ROWS * STEP; ++n) s[n] = 0;
        UNROLL for (uint i = 0; i < CHUNKS; ++i)
            UNROLL for (uint j = 0; j < STEP; ++j) {
                const vec4 k = LOAD_CACHED(CACHE, keys + uint64_t(min(key + j, end - 1)) * kv_stride, i, part);
                UNROLL for (uint r = 0; r < ROWS; ++r) s[r * STEP + j] = dot_add(s[r * STEP + j], q[r * CHUNKS + i], k);
            }
        float keep[ROWS];
        UNROLL for (uint r = 0; r < ROWS; ++r) {
            float new_top = top[r];
            UNROLL for (uint j = 0; j < STEP; ++j) {
                const bool seen = key + j <= query[r] && key + j >= start[r];
                s[r * STEP + j] = mix(-2e30, row_sum(s[r * STEP + j]), seen);  // below every top: exactly 0 after exp2
                new_top = max(new_top, s[r * STEP + j]);
            }
            keep[r] = exp2(top[r] - new_top);
            top[r] = new_top;
            sum[r] *= keep[r];
            UNROLL for (uint j = 0; j < STEP; ++j) {
                s[r * STEP + j] = exp2(s[r * STEP + j] - new_top);
                sum[r] += s[r * STEP + j];
            }
        }
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            UNROLL for (uint r = 0; r < ROWS; ++r) acc[r * CHUNKS + i] *= keep[r];
            UNROLL for (uint j = 0; j < STEP; ++j) {
                const vec4 v = LOAD_CACHED(CACHE, values + uint64_t(min(key + j, end - 1)) * kv_stride, i, part);
                UNROLL for (uint r = 0; r < ROWS; ++r) acc[r * CHUNKS + i] += s[r * STEP + j] * v;
            }
        }
        key += STEP;
    } while (key < end);
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        const uint row = first + slot + r * PER_ROW;
        if (row >= ROW_COUNT) continue;
        float inverse = 1 / sum[r];
#ifndef TRAINING
        if (row >= count) inverse = 0;
#endif
        const uint64_t to = a.y + (uint64_t(batch) * ROW_COUNT + row) * (a.heads * HEAD_DIM * 4) + head * HEAD_DIM * 4;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) store_chunk(to, i, part, mix(vec4(0), acc[r * CHUNKS + i] * inverse, bvec4(inverse != 0)));
#ifdef TRAINING
        if (part == 0 && a.lse != 0) F32(a.lse + uint64_t(batch * a.heads + head) * a.seq_len * 4).v[row] = top[r] + log2(sum[r]);
#endif
    }
}

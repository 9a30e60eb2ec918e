#version 460
//! variant cached_attention_split_f32 CACHE=f32 CACHE_BYTES=4
//! variant cached_attention_split_f16 CACHE=f16 CACHE_BYTES=2
//! variant cached_attention_split_bf16 CACHE=bf16 CACHE_BYTES=2
// Attention of few queries over a long cache (flash decoding): the context is cut into parts, a subgroup takes one part for ROWS
// heads of a group. SPLIT lanes share a key; the lanes of a subgroup's keys keep sums of their own, joined at the end.
// Grid: (parts, heads / ROWS, tokens).
#include "ops/attention.glsl"
#include "args/kv_cache.h"
#include "ops/context_parts.glsl"
layout(push_constant, scalar) uniform Push { CachedAttentionArgs a; };

void main() {
    const uint lane = gl_SubgroupInvocationID;
    const uint part = SPLIT == 1 ? 0 : lane % SPLIT;
    const uint slot = SPLIT == 1 ? lane : lane / SPLIT;
    const uint head = gl_WorkGroupID.y * ROWS, row = gl_WorkGroupID.z;
    uint count = a.tokens;
    if (COUNTED) count = U32(a.count).v[0];
    const uint keys_seen = min(U32(a.start).v[0] + row + 1, a.max_positions);
    const uint length = part_length(keys_seen, a.splits, a.shortest);
    const uint begin = gl_WorkGroupID.x * length;
    const uint end = min(begin + length, keys_seen);
    const uint64_t q_row = a.qkv + uint64_t(row) * ((a.heads + 2 * a.kv_heads) * HEAD_DIM * 4) + head * HEAD_DIM * 4;
    const uint kv_head = head / (a.heads / a.kv_heads);
    const uint kv_stride = a.kv_heads * HEAD_DIM * CACHE_BYTES;
    const uint64_t keys = a.cache_k + kv_head * HEAD_DIM * CACHE_BYTES;
    const uint64_t values = a.cache_v + kv_head * HEAD_DIM * CACHE_BYTES;
    const bool empty = begin >= keys_seen || row >= count;

    vec4 q[ROWS * CHUNKS], acc[ROWS * CHUNKS];
    float top[ROWS], sum[ROWS];
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        top[r] = -1e30;
        sum[r] = 0;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            q[r * CHUNKS + i] = load_chunk(q_row + r * HEAD_DIM * 4, i, part) * (a.scale * LOG2E);
            acc[r * CHUNKS + i] = vec4(0);
        }
    }
    if (!empty) {
        uint key = begin + slot;
        uint first = begin;
        do {
            float s[ROWS * STEP];
            UNROLL for (uint n = 0; n < ROWS * STEP; ++n) s[n] = 0;
            UNROLL for (uint i = 0; i < CHUNKS; ++i)
                UNROLL for (uint j = 0; j < STEP; ++j) {
                    const vec4 k = LOAD_CACHED(CACHE, keys + uint64_t(min(key + j * PER_ROW, end - 1)) * kv_stride, i, part);
                    UNROLL for (uint r = 0; r < ROWS; ++r) s[r * STEP + j] = dot_add(s[r * STEP + j], q[r * CHUNKS + i], k);
                }
            float keep[ROWS];
            UNROLL for (uint r = 0; r < ROWS; ++r) {
                float new_top = top[r];
                UNROLL for (uint j = 0; j < STEP; ++j) {
                    s[r * STEP + j] = mix(-2e30, row_sum(s[r * STEP + j]), key + j * PER_ROW < end);
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
                    const vec4 v = LOAD_CACHED(CACHE, values + uint64_t(min(key + j * PER_ROW, end - 1)) * kv_stride, i, part);
                    UNROLL for (uint r = 0; r < ROWS; ++r) acc[r * CHUNKS + i] += s[r * STEP + j] * v;
                }
            }
            key += STEP * PER_ROW;
            first += STEP * PER_ROW;
        } while (first < end);
    }
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        float all = top[r];
        UNROLL for (uint m = SPLIT; m < gl_WorkGroupSize.x; m *= 2) all = max(all, subgroupShuffleXor(all, m));
        const float keep = exp2(top[r] - all);
        sum[r] *= keep;
        UNROLL for (uint m = SPLIT; m < gl_WorkGroupSize.x; m *= 2) sum[r] += subgroupShuffleXor(sum[r], m);
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            vec4 x = acc[r * CHUNKS + i] * keep;
            UNROLL for (uint m = SPLIT; m < gl_WorkGroupSize.x; m *= 2) x += subgroupShuffleXor(x, m);
            acc[r * CHUNKS + i] = x;
        }
        top[r] = all;
    }
    if (slot != 0) return;
    if (a.splits == 1) {
        UNROLL for (uint r = 0; r < ROWS; ++r) {
            const uint64_t to = a.y + (uint64_t(row) * a.heads + head + r) * (HEAD_DIM * 4);
            const float inverse = 1 / sum[r];
            UNROLL for (uint i = 0; i < CHUNKS; ++i) store_chunk(to, i, part, mix(acc[r * CHUNKS + i] * inverse, vec4(0), bvec4(row >= count)));
        }
    } else if (!empty) {
        UNROLL for (uint r = 0; r < ROWS; ++r) {
            const uint64_t to = a.y + ((uint64_t(row) * a.heads + head + r) * a.splits + gl_WorkGroupID.x) * ((HEAD_DIM + 2) * 4);
            UNROLL for (uint i = 0; i < CHUNKS; ++i) {
                const uint d = 4 * (i * SPLIT + part);
                F32(to).v[d] = acc[r * CHUNKS + i].x;
                F32(to).v[d + 1] = acc[r * CHUNKS + i].y;
                if (HEAD_DIM % 4 == 0 || i + 1 < CHUNKS) {
                    F32(to).v[d + 2] = acc[r * CHUNKS + i].z;
                    F32(to).v[d + 3] = acc[r * CHUNKS + i].w;
                }
            }
            if (part == 0) {
                F32(to).v[HEAD_DIM] = top[r];
                F32(to).v[HEAD_DIM + 1] = sum[r];
            }
        }
    }
}

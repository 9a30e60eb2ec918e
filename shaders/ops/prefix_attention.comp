#version 460
//! variant prefix_attention
// As attention_forward, for sequences that share a prefix: behind the prefix a query leaves out what stands between the prefix
// and its own sequence. Grid: (tiles of queries, heads). The longest tiles come first.
#include "ops/attention.glsl"
#include "args/prefix_attention.h"
layout(push_constant, scalar) uniform Push { PrefixAttentionArgs a; };

void main() {
    const uint lane = gl_SubgroupInvocationID;
    const uint part = SPLIT == 1 ? 0 : lane % SPLIT;
    const uint slot = SPLIT == 1 ? lane : lane / SPLIT;
    const uint head = gl_WorkGroupID.y;
    const uint first = ((a.tokens + TILE - 1) / TILE - 1 - gl_WorkGroupID.x) * TILE;
    const uint stride = (a.heads + 2 * a.kv_heads) * HEAD_DIM * 4;  // bytes
    const uint end = min(first + TILE, a.tokens);                   // of the keys
    const uint64_t keys = a.qkv + (a.heads + head / (a.heads / a.kv_heads)) * HEAD_DIM * 4;
    const uint64_t values = keys + a.kv_heads * HEAD_DIM * 4;

    vec4 q[ROWS * CHUNKS], acc[ROWS * CHUNKS];
    uint query[ROWS], start[ROWS], skip_from[ROWS], skip_to[ROWS];
    float top[ROWS], sum[ROWS];
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        const uint row = min(first + slot + r * PER_ROW, a.tokens - 1);
        query[r] = row;
        start[r] = uint(I32(a.first).v[row]);
        skip_from[r] = uint(I32(a.skip_from).v[row]);
        skip_to[r] = uint(I32(a.skip_to).v[row]);
        top[r] = -1e30;
        sum[r] = 0;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            q[r * CHUNKS + i] = load_chunk(a.qkv + uint64_t(row) * stride + head * HEAD_DIM * 4, i, part) * (a.scale * LOG2E);
            acc[r * CHUNKS + i] = vec4(0);
        }
    }
    uint key = min(uint(I32(a.first).v[first]), first);  // the tile's first query has the earliest start
    do {
        float s[ROWS * STEP];
        UNROLL for (uint n = 0; n < ROWS * STEP; ++n) s[n] = 0;
        UNROLL for (uint i = 0; i < CHUNKS; ++i)
            UNROLL for (uint j = 0; j < STEP; ++j) {
                const vec4 k = load_chunk(keys + uint64_t(min(key + j, end - 1)) * stride, i, part);
                UNROLL for (uint r = 0; r < ROWS; ++r) s[r * STEP + j] = dot_add(s[r * STEP + j], q[r * CHUNKS + i], k);
            }
        float keep[ROWS];
        UNROLL for (uint r = 0; r < ROWS; ++r) {
            float new_top = top[r];
            UNROLL for (uint j = 0; j < STEP; ++j) {
                const uint at = key + j;
                const bool seen = at <= query[r] && at >= start[r] && (at < skip_from[r] || at >= skip_to[r]);
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
                const vec4 v = load_chunk(values + uint64_t(min(key + j, end - 1)) * stride, i, part);
                UNROLL for (uint r = 0; r < ROWS; ++r) acc[r * CHUNKS + i] += s[r * STEP + j] * v;
            }
        }
        key += STEP;
    } while (key < end);
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        const uint row = first + slot + r * PER_ROW;
        if (row >= a.tokens) continue;
        const uint64_t to = a.y + uint64_t(row) * (a.heads * HEAD_DIM * 4) + head * HEAD_DIM * 4;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) store_chunk(to, i, part, acc[r * CHUNKS + i] / sum[r]);
    }
}

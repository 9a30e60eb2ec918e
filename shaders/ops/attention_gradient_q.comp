#version 460
//! variant attention_gradient_q
// dq of causal attention, and delta = sum(dy * y): as the forward pass, a lane (or SPLIT lanes) per query and head.
// With p = exp(s - lse): ds = p * (dy . v - delta), dq = scale * sum over keys of ds * k.
#include "ops/attention.glsl"
#include "args/attention.h"
layout(push_constant, scalar) uniform Push { AttentionGradientArgs a; };

void main() {
    const uint lane = gl_SubgroupInvocationID;
    const uint part = SPLIT == 1 ? 0 : lane % SPLIT;
    const uint slot = SPLIT == 1 ? lane : lane / SPLIT;
    const uint head = gl_WorkGroupID.y, batch = gl_WorkGroupID.z;
    const uint first = ((a.seq_len + TILE - 1) / TILE - 1 - gl_WorkGroupID.x) * TILE;
    const uint end = min(first + TILE, a.seq_len);
    const uint stride = (a.heads + 2 * a.kv_heads) * HEAD_DIM * 4;  // bytes
    const uint64_t sequence = uint64_t(batch) * a.seq_len * stride;
    const uint kv_head = head / (a.heads / a.kv_heads);
    const uint64_t keys = a.qkv + sequence + (a.heads + kv_head) * HEAD_DIM * 4;
    const uint64_t values = keys + a.kv_heads * HEAD_DIM * 4;
    const uint64_t starts = a.document_start + uint64_t(batch) * a.seq_len * 4;
    const uint64_t per_query = uint64_t(batch * a.heads + head) * a.seq_len * 4;  // into lse and delta

    vec4 q[ROWS * CHUNKS], dy[ROWS * CHUNKS], acc[ROWS * CHUNKS];
    uint query[ROWS], start[ROWS];
    float lse[ROWS], delta[ROWS];
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        query[r] = min(first + slot + r * PER_ROW, a.seq_len - 1);
        start[r] = 0;
        if (DOCUMENTS) start[r] = uint(I32(starts).v[query[r]]);
        const uint64_t q_row = a.qkv + sequence + uint64_t(query[r]) * stride + head * HEAD_DIM * 4;
        const uint64_t y_row = (uint64_t(batch) * a.seq_len + query[r]) * (a.heads * HEAD_DIM * 4) + head * HEAD_DIM * 4;
        delta[r] = 0;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            q[r * CHUNKS + i] = load_chunk(q_row, i, part) * (a.scale * LOG2E);
            dy[r * CHUNKS + i] = load_chunk(a.dy + y_row, i, part);
            delta[r] = dot_add(delta[r], dy[r * CHUNKS + i], load_chunk(a.y + y_row, i, part));
            acc[r * CHUNKS + i] = vec4(0);
        }
        delta[r] = row_sum(delta[r]);
        lse[r] = F32(a.lse + per_query).v[query[r]];
    }
    uint key = 0;
    if (DOCUMENTS) key = min(uint(I32(starts).v[first]), first);
    do {
        float s[ROWS * STEP], ds[ROWS * STEP];
        UNROLL for (uint n = 0; n < ROWS * STEP; ++n) s[n] = ds[n] = 0;
        UNROLL for (uint i = 0; i < CHUNKS; ++i)
            UNROLL for (uint j = 0; j < STEP; ++j) {
                const uint64_t at = uint64_t(min(key + j, end - 1)) * stride;
                const vec4 k = load_chunk(keys + at, i, part);
                const vec4 v = load_chunk(values + at, i, part);
                UNROLL for (uint r = 0; r < ROWS; ++r) {
                    s[r * STEP + j] = dot_add(s[r * STEP + j], q[r * CHUNKS + i], k);
                    ds[r * STEP + j] = dot_add(ds[r * STEP + j], dy[r * CHUNKS + i], v);
                }
            }
        UNROLL for (uint r = 0; r < ROWS; ++r)
            UNROLL for (uint j = 0; j < STEP; ++j) {
                const bool seen = key + j <= query[r] && key + j >= start[r];
                const float p = exp2(mix(-2e30, row_sum(s[r * STEP + j]) - lse[r], seen));
                ds[r * STEP + j] = p * (row_sum(ds[r * STEP + j]) - delta[r]);
            }
        UNROLL for (uint i = 0; i < CHUNKS; ++i)
            UNROLL for (uint j = 0; j < STEP; ++j) {
                const vec4 k = load_chunk(keys + uint64_t(min(key + j, end - 1)) * stride, i, part);
                UNROLL for (uint r = 0; r < ROWS; ++r) acc[r * CHUNKS + i] += ds[r * STEP + j] * k;
            }
        key += STEP;
    } while (key < end);
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        if (first + slot + r * PER_ROW >= a.seq_len) continue;
        const uint64_t row = sequence + uint64_t(query[r]) * stride + head * HEAD_DIM * 4;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            vec4 x = acc[r * CHUNKS + i] * a.scale;
            if (a.base != 0) x += load_chunk(a.base + row, i, part);
            store_chunk(a.dqkv + row, i, part, x);
        }
        if (part == 0) F32(a.delta + per_query).v[query[r]] = delta[r];
    }
}

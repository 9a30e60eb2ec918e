#version 460
//! variant attention_forward
// Causal attention with online softmax: a lane (or SPLIT lanes) per query and head, keys in a loop. Grid: (tiles of queries,
// heads, batch). The longest tiles come first.
#include "ops/attention.glsl"
#include "args/attention.h"
layout(push_constant, scalar) uniform Push { AttentionArgs a; };

void main() {
    const uint lane = gl_SubgroupInvocationID;
    const uint part = SPLIT == 1 ? 0 : lane % SPLIT;
    const uint slot = SPLIT == 1 ? lane : lane / SPLIT;
    const uint head = gl_WorkGroupID.y, batch = gl_WorkGroupID.z;
    const uint first = ((a.seq_len + TILE - 1) / TILE - 1 - gl_WorkGroupID.x) * TILE;
    const uint end = min(first + TILE, a.seq_len);
    const uint stride = (a.heads + 2 * a.kv_heads) * HEAD_DIM * 4;  // bytes
    const uint64_t sequence = a.qkv + uint64_t(batch) * a.seq_len * stride;
    const uint kv_head = head / (a.heads / a.kv_heads);
    const uint64_t keys = sequence + (a.heads + kv_head) * HEAD_DIM * 4;
    const uint64_t values = keys + a.kv_heads * HEAD_DIM * 4;
    const uint64_t starts = a.document_start + uint64_t(batch) * a.seq_len * 4;

    vec4 q[ROWS * CHUNKS], acc[ROWS * CHUNKS];
    uint query[ROWS], start[ROWS];
    float top[ROWS], sum[ROWS];
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        query[r] = min(first + slot + r * PER_ROW, a.seq_len - 1);
        start[r] = 0;
        if (DOCUMENTS) start[r] = uint(I32(starts).v[query[r]]);
        top[r] = -1e30;
        sum[r] = 0;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            q[r * CHUNKS + i] = load_chunk(sequence + uint64_t(query[r]) * stride + head * HEAD_DIM * 4, i, part) * (a.scale * LOG2E);
            acc[r * CHUNKS + i] = vec4(0);
        }
    }
    // Documents follow one another: the tile's first query has the earliest start.
    uint key = 0;
    if (DOCUMENTS) key = min(uint(I32(starts).v[first]), first);
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
                const vec4 v = load_chunk(values + uint64_t(min(key + j, end - 1)) * stride, i, part);
                UNROLL for (uint r = 0; r < ROWS; ++r) acc[r * CHUNKS + i] += s[r * STEP + j] * v;
            }
        }
        key += STEP;
    } while (key < end);
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        if (first + slot + r * PER_ROW >= a.seq_len) continue;
        const float inverse = 1 / sum[r];
        const uint64_t row = a.y + (uint64_t(batch) * a.seq_len + query[r]) * (a.heads * HEAD_DIM * 4) + head * HEAD_DIM * 4;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) store_chunk(row, i, part, acc[r * CHUNKS + i] * inverse);
        if (part == 0 && a.lse != 0) F32(a.lse + uint64_t(batch * a.heads + head) * a.seq_len * 4).v[query[r]] = top[r] + log2(sum[r]);
    }
}

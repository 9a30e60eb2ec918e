#version 460
//! variant attention_gradient_kv
// dk and dv of causal attention: a lane (or SPLIT lanes) per key and key-value head, the group's heads and the queries that see
// the key in loops. Where there are few keys, several subgroups share the queries, and the first adds up what they have.
// Grid: (tiles of keys, kv_heads, batch).
#define SEVERAL_WAYS
#include "ops/attention.glsl"
#include "args/attention.h"
layout(push_constant, scalar) uniform Push { AttentionGradientArgs a; };
const uint VALUES = 2 * ROWS * CHUNKS;  // of a lane: dk and dv
shared vec4 shares[WAYS > 1 ? (WAYS - 1) * VALUES * LANES : 1];

void main() {
    const uint lane = gl_SubgroupInvocationID, way = WAYS == 1 ? 0 : gl_SubgroupID;
    const uint part = SPLIT == 1 ? 0 : lane % SPLIT;
    const uint slot = SPLIT == 1 ? lane : lane / SPLIT;
    const uint kv_head = gl_WorkGroupID.y, batch = gl_WorkGroupID.z;
    const uint first = gl_WorkGroupID.x * TILE;
    const uint stride = (a.heads + 2 * a.kv_heads) * HEAD_DIM * 4;  // bytes
    const uint y_stride = a.heads * HEAD_DIM * 4;
    const uint64_t sequence = uint64_t(batch) * a.seq_len * stride;
    const uint group = a.heads / a.kv_heads;
    const uint64_t ends = a.document_end + uint64_t(batch) * a.seq_len * 4;
    const float scale2 = a.scale * LOG2E;

    vec4 k[ROWS * CHUNKS], v[ROWS * CHUNKS], dk[ROWS * CHUNKS], dv[ROWS * CHUNKS];
    uint key[ROWS], last[ROWS];
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        key[r] = min(first + slot + r * PER_ROW, a.seq_len - 1);
        last[r] = a.seq_len;
        if (DOCUMENTS) last[r] = uint(I32(ends).v[key[r]]);
        const uint64_t row = a.qkv + sequence + uint64_t(key[r]) * stride + (a.heads + kv_head) * HEAD_DIM * 4;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            k[r * CHUNKS + i] = load_chunk(row, i, part) * scale2;
            v[r * CHUNKS + i] = load_chunk(row + a.kv_heads * HEAD_DIM * 4, i, part);
            dk[r * CHUNKS + i] = dv[r * CHUNKS + i] = vec4(0);
        }
    }
    // Documents follow one another: the tile's last key is seen longest.
    uint end = a.seq_len;
    if (DOCUMENTS) end = clamp(uint(I32(ends).v[min(first + TILE, a.seq_len) - 1]), first + 1, a.seq_len);
    uint member = 0;
    do {
        const uint head = kv_head * group + member;
        const uint64_t q_rows = a.qkv + sequence + head * HEAD_DIM * 4;
        const uint64_t dy_rows = a.dy + uint64_t(batch) * a.seq_len * y_stride + head * HEAD_DIM * 4;
        const uint64_t per_query = uint64_t(batch * a.heads + head) * a.seq_len * 4;
        uint query = first + way * STEP;
        do {
            float p[ROWS * STEP], ds[ROWS * STEP];
            UNROLL for (uint n = 0; n < ROWS * STEP; ++n) p[n] = ds[n] = 0;
            UNROLL for (uint i = 0; i < CHUNKS; ++i)
                UNROLL for (uint j = 0; j < STEP; ++j) {
                    const uint64_t at = min(query + j, end - 1);
                    const vec4 q = load_chunk(q_rows + at * stride, i, part);
                    const vec4 dy = load_chunk(dy_rows + at * y_stride, i, part);
                    UNROLL for (uint r = 0; r < ROWS; ++r) {
                        p[r * STEP + j] = dot_add(p[r * STEP + j], k[r * CHUNKS + i], q);
                        ds[r * STEP + j] = dot_add(ds[r * STEP + j], v[r * CHUNKS + i], dy);
                    }
                }
            UNROLL for (uint j = 0; j < STEP; ++j) {
                const uint at = min(query + j, end - 1);
                const float lse = F32(a.lse + per_query).v[at];
                const float delta = F32(a.delta + per_query).v[at];
                UNROLL for (uint r = 0; r < ROWS; ++r) {
                    const bool seen = query + j >= key[r] && query + j < last[r];
                    p[r * STEP + j] = exp2(mix(-2e30, row_sum(p[r * STEP + j]) - lse, seen));
                    ds[r * STEP + j] = p[r * STEP + j] * (row_sum(ds[r * STEP + j]) - delta);
                }
            }
            UNROLL for (uint i = 0; i < CHUNKS; ++i)
                UNROLL for (uint j = 0; j < STEP; ++j) {
                    const uint64_t at = min(query + j, end - 1);
                    const vec4 q = load_chunk(q_rows + at * stride, i, part);
                    const vec4 dy = load_chunk(dy_rows + at * y_stride, i, part);
                    UNROLL for (uint r = 0; r < ROWS; ++r) {
                        dk[r * CHUNKS + i] += ds[r * STEP + j] * q;
                        dv[r * CHUNKS + i] += p[r * STEP + j] * dy;
                    }
                }
            query += WAYS * STEP;
        } while (query < end);
        member += 1;
    } while (member < group);
    if (WAYS > 1) {
        if (way > 0)
            UNROLL for (uint i = 0; i < ROWS * CHUNKS; ++i) {
                shares[((way - 1) * VALUES + 2 * i) * LANES + lane] = dk[i];
                shares[((way - 1) * VALUES + 2 * i + 1) * LANES + lane] = dv[i];
            }
        barrier();
        if (way > 0) return;
        for (uint w = 0; w < WAYS - 1; ++w)
            UNROLL for (uint i = 0; i < ROWS * CHUNKS; ++i) {
                dk[i] += shares[(w * VALUES + 2 * i) * LANES + lane];
                dv[i] += shares[(w * VALUES + 2 * i + 1) * LANES + lane];
            }
    }
    UNROLL for (uint r = 0; r < ROWS; ++r) {
        if (first + slot + r * PER_ROW >= a.seq_len) continue;
        const uint64_t k_row = sequence + uint64_t(key[r]) * stride + (a.heads + kv_head) * HEAD_DIM * 4;
        const uint64_t v_row = k_row + a.kv_heads * HEAD_DIM * 4;
        UNROLL for (uint i = 0; i < CHUNKS; ++i) {
            vec4 x = dk[r * CHUNKS + i] * a.scale;
            if (a.base != 0) x += load_chunk(a.base + k_row, i, part);
            store_chunk(a.dqkv + k_row, i, part, x);
            vec4 z = dv[r * CHUNKS + i];
            if (a.base != 0) z += load_chunk(a.base + v_row, i, part);
            store_chunk(a.dqkv + v_row, i, part, z);
        }
    }
}

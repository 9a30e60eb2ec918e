#version 460
//! variant attention_units_gradient_q_f16 needs=coopmat
//! variant attention_units_gradient_q_bf16 needs=coopmat,bfloat16 BFLOAT=1
// dq of causal attention on matrix units, with tiles of queries as in the forward pass:
// p = exp(s - lse), ds = p * (dy . v - delta), dq = scale * sum over keys of ds * k.
#pragma use_vulkan_memory_model
#include "common.glsl"
#include "ops/attention_units.glsl"
#include "args/attention_units.h"
layout(push_constant, scalar) uniform Push { AttentionUnitsGradientArgs a; };

const uint ROWS = GROUPS * R, SPAN = ROWS / HEADS;
const uint PARTS = LANES > R ? LANES / R : 1, PER_LANE = LANES > R ? 1 : R / LANES, PART = STEP / PARTS;
const uint K_AT = 0, V_AT = TILE_SIZE, REGIONS_AT = 2 * TILE_SIZE, WALK_SIZE = REGIONS_AT + 2 * GROUPS * REGION;
const uint Q_AT = RESIDENT ? 0 : WALK_SIZE, DY_AT = RESIDENT ? 0 : Q_AT + ROWS * LINE, OWN_END = DY_AT + ROWS * LINE;
shared uvec4 memory[OWN_END > WALK_SIZE ? OWN_END : WALK_SIZE];

void main() {
    const uint lane = gl_SubgroupInvocationID, subgroup = gl_SubgroupID;
    const uint head0 = gl_WorkGroupID.y * HEADS, batch = gl_WorkGroupID.z, kv_head = head0 / (a.heads / a.kv_heads);
    const uint first = ((a.seq_len + SPAN - 1) / SPAN - 1 - gl_WorkGroupID.x) * SPAN;
    const uint columns = (a.heads + 2 * a.kv_heads) * HEAD_DIM, stride = columns * 2;
    const uint64_t sequence = a.x + uint64_t(batch) * a.seq_len * stride;
    const uint64_t keys = sequence + (a.heads + kv_head) * HEAD_DIM * 2, values = keys + a.kv_heads * HEAD_DIM * 2;
    const uint64_t dy_rows = a.dy16 + uint64_t(batch) * a.seq_len * (a.heads * HEAD_DIM * 2);
    const uint64_t starts = a.document_start + uint64_t(batch) * a.seq_len * 4;
    const uint end = min(first + SPAN, a.seq_len);
    const uint region = REGIONS_AT + 2 * subgroup * REGION, second = region + REGION, part = LANES > R ? lane / R : 0;
    const uint low = first + subgroup * BLOCKS / HEADS * TILE_M;
    const uint high = first + (subgroup * BLOCKS + BLOCKS - 1) / HEADS * TILE_M + TILE_M - 1;

    MATRIX_A q[RESIDENT ? BLOCKS * DEPTHS : 1], dy[RESIDENT ? BLOCKS * DEPTHS : 1];
#define QUERY(row) min(first + (row) / (TILE_M * HEADS) * TILE_M + (row) % TILE_M, a.seq_len - 1)
#define HEAD(row) (head0 + (row) / TILE_M % HEADS)
    STAGE(Q_AT, ROWS, sequence + QUERY(row) * stride + HEAD(row) * (HEAD_DIM * 2), TYPE_PRODUCT)
    if (RESIDENT) {
        barrier();
        LOAD_OWN(q, Q_AT, subgroup * R)
        barrier();
    }
    STAGE(DY_AT, ROWS, dy_rows + (QUERY(row) * a.heads + HEAD(row)) * (HEAD_DIM * 2), TYPE_PRODUCT)
    if (RESIDENT) {
        barrier();
        LOAD_OWN(dy, DY_AT, subgroup * R)
        barrier();
    }
    MATRIX_C sums[BLOCKS * WIDTHS];
    UNROLL for (uint i = 0; i < BLOCKS * WIDTHS; ++i) sums[i] = MATRIX_C(0.0);

    uint own_row[PER_LANE], query[PER_LANE], start[PER_LANE];
    float lse[PER_LANE], delta[PER_LANE];
    UNROLL for (uint r = 0; r < PER_LANE; ++r) {
        own_row[r] = LANES > R ? lane % R : lane + r * LANES;
        const uint row = subgroup * R + own_row[r];
        query[r] = QUERY(row);
        const uint64_t offset = (uint64_t(batch) * a.heads + HEAD(row)) * a.seq_len * 4;
        lse[r] = F32(a.lse + offset).v[query[r]];
        delta[r] = F32(a.delta + offset).v[query[r]];
        start[r] = 0;
    }
    uint key = 0, low_start = 0, high_start = 0;
    if (DOCUMENTS) {
        key = uint(I32(starts).v[first]);
        low_start = uint(I32(starts).v[min(low, a.seq_len - 1)]);
        high_start = uint(I32(starts).v[min(high, a.seq_len - 1)]);
        UNROLL for (uint r = 0; r < PER_LANE; ++r) start[r] = uint(I32(starts).v[query[r]]);
    }
    const float scale = a.scale * LOG2E;
    Chunk k_next[FETCHES], v_next[FETCHES];
    if (PREFETCH) {
        FETCH(k_next, keys, stride, key, end, TYPE_PRODUCT)
        FETCH(v_next, values, stride, key, end, TYPE_PRODUCT)
    }
    do {
        if (!PREFETCH) {
            FETCH(k_next, keys, stride, key, end, TYPE_PRODUCT)
            FETCH(v_next, values, stride, key, end, TYPE_PRODUCT)
        }
        PUT(k_next, K_AT, TYPE_PRODUCT)
        PUT(v_next, V_AT, TYPE_PRODUCT)
        barrier();
        const uint at = key;
        key += STEP;
        if (PREFETCH && key < end) {
            FETCH(k_next, keys, stride, key, end, TYPE_PRODUCT)
            FETCH(v_next, values, stride, key, end, TYPE_PRODUCT)
        }
        if (at <= high && at + STEP > low_start) {
            SCORES(region, q, Q_AT, subgroup * R, K_AT)
            SCORES(second, dy, DY_AT, subgroup * R, V_AT)
            meet_subgroup();
            const bool masked = at + STEP > low + 1 || at < high_start || at + STEP > end;
            UNROLL for (uint r = 0; r < PER_LANE; ++r)
                UNROLL for (uint c = 0; c < PART; c += 8) {
                    const uint from = own_row[r] * SCORE_LINE + (part * PART + c) / 4;
                    vec4 ds[2];
                    UNROLL for (uint half_ = 0; half_ < 2; ++half_) {
                        const vec4 s = uintBitsToFloat(memory[region + from + half_]), dp = uintBitsToFloat(memory[second + from + half_]);
                        ds[half_] = exp2(s * scale - lse[r]) * (dp - delta[r]);
                        if (masked) {
                            UNROLL for (uint e = 0; e < 4; ++e) {
                                const uint k = at + part * PART + c + 4 * half_ + e;
                                ds[half_][e] = k <= query[r] && k >= start[r] ? ds[half_][e] : 0;
                            }
                        }
                    }
                    memory[region + own_row[r] * SCORE_LINE + weights_place(part * PART + c)] = pack_weights(ds[0], ds[1]);
                }
            meet_subgroup();
            WEIGHTED(sums, region, K_AT)
        }
        barrier();
    } while (key < end);

    UNROLL for (uint i = 0; i < BLOCKS * WIDTHS; ++i) sums[i] = sums[i] * a.scale;
    UNROLL for (uint i = 0; i < BLOCKS; ++i) {
        const uint block = subgroup * BLOCKS + i, row = first + block / HEADS * TILE_M, head = head0 + block % HEADS;
        const uint64_t offset = ((uint64_t(batch) * a.seq_len + row) * columns + head * HEAD_DIM) * 4;
        const int exist = int(a.seq_len) - int(row);
        STORE_BLOCK(sums, i, a.base + offset, a.dqkv + offset, columns, exist, exist, region, lane)
    }
}

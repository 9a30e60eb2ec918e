#version 460
//! variant attention_units_gradient_kv_f16 needs=coopmat
//! variant attention_units_gradient_kv_bf16 needs=coopmat,bfloat16 BFLOAT=1
// dk and dv of causal attention on matrix units. Two subgroups have the same keys: the first has k, computes the scores and sums
// dv = p^T dy, the second has v, computes dy . v and sums dk = ds^T q; what lies between they share. The group's heads and the
// queries that see the keys follow in loops, so that nothing is summed across workgroups. Grid: (tiles of keys, kv_heads, batch).
#pragma use_vulkan_memory_model
#include "common.glsl"
#include "ops/attention_units.glsl"
#include "args/attention_units.h"
layout(push_constant, scalar) uniform Push { AttentionUnitsGradientArgs a; };

const uint PAIRS = GROUPS / 2, ROWS = PAIRS * R;
const uint PARTS = 2 * LANES > R ? 2 * LANES / R : 1;                // lanes that share a row: of both subgroups
const uint PER_LANE = 2 * LANES > R ? 1 : R / (2 * LANES);           // rows of a lane
const uint PART = STEP / PARTS;                                      // queries of a lane
const bool IN_PLACE = PART % TILE_K == 0;                            // no lane overwrites what another one reads
const uint Q_AT = 0, DY_AT = TILE_SIZE, LSE_AT = 2 * TILE_SIZE, DELTA_AT = LSE_AT + STEP / 4;
const uint REGIONS_AT = DELTA_AT + STEP / 4, WALK_SIZE = REGIONS_AT + GROUPS * REGION;
const uint K_AT = RESIDENT ? 0 : WALK_SIZE, V_AT = K_AT + ROWS * LINE, OWN_END = V_AT + ROWS * LINE;
shared uvec4 memory[OWN_END > WALK_SIZE ? OWN_END : WALK_SIZE];

void main() {
    const uint lane = gl_SubgroupInvocationID, pair = gl_SubgroupID / 2, role = gl_SubgroupID % 2;
    const uint kv_head = gl_WorkGroupID.y, batch = gl_WorkGroupID.z, group = a.heads / a.kv_heads;
    const uint first = gl_WorkGroupID.x * ROWS;
    const uint columns = (a.heads + 2 * a.kv_heads) * HEAD_DIM, stride = columns * 2, dy_stride = a.heads * HEAD_DIM * 2;
    const uint64_t sequence = a.x + uint64_t(batch) * a.seq_len * stride;
    const uint64_t keys = sequence + (a.heads + kv_head) * HEAD_DIM * 2, values = keys + a.kv_heads * HEAD_DIM * 2;
    const uint64_t dy_sequence = a.dy16 + uint64_t(batch) * a.seq_len * dy_stride;
    const uint64_t ends = a.document_end + uint64_t(batch) * a.seq_len * 4;
    const uint scores_at = REGIONS_AT + 2 * pair * REGION, second_at = scores_at + REGION, own_region = scores_at + role * REGION;
    const uint both_lane = role * LANES + lane, part = 2 * LANES > R ? both_lane / R : 0;
    const uint low = first + pair * R, high = low + R - 1;

    MATRIX_A own[RESIDENT ? BLOCKS * DEPTHS : 1];
    STAGE(K_AT, ROWS, keys + min(first + row, a.seq_len - 1) * stride, TYPE_PRODUCT)
    STAGE(V_AT, ROWS, values + min(first + row, a.seq_len - 1) * stride, TYPE_PRODUCT)
    const uint own_at = role == 0 ? K_AT : V_AT;
    if (RESIDENT) {
        barrier();
        LOAD_OWN(own, own_at, pair * R)
        barrier();
    }
    MATRIX_C sums[BLOCKS * WIDTHS];
    UNROLL for (uint i = 0; i < BLOCKS * WIDTHS; ++i) sums[i] = MATRIX_C(0.0);

    uint own_row[PER_LANE], key[PER_LANE], last[PER_LANE];
    // Documents follow one another: the last key is seen longest. low_end, high_end: where queries end that see the subgroup's
    // first and last key.
    uint end = a.seq_len, low_end = a.seq_len, high_end = a.seq_len;
    if (DOCUMENTS) {
        end = uint(I32(ends).v[min(first + ROWS, a.seq_len) - 1]);
        low_end = uint(I32(ends).v[min(low, a.seq_len - 1)]);
        high_end = uint(I32(ends).v[min(high, a.seq_len - 1)]);
    }
    UNROLL for (uint r = 0; r < PER_LANE; ++r) {
        own_row[r] = 2 * LANES > R ? both_lane % R : both_lane + r * 2 * LANES;
        key[r] = min(low + own_row[r], a.seq_len - 1);
        last[r] = a.seq_len;
        if (DOCUMENTS) last[r] = uint(I32(ends).v[key[r]]);
    }
    const float scale = a.scale * LOG2E;
    const uint heads0 = kv_head * group;
    uint member = 0, query = first;
    Chunk q_next[FETCHES], dy_next[FETCHES];
    float lse_next, delta_next;
#define FETCH_QUERIES                                                                                         \
    {                                                                                                         \
        const uint head = heads0 + min(member, group - 1);                                                    \
        FETCH(q_next, sequence + head * (HEAD_DIM * 2), stride, query, end, TYPE_PRODUCT)                     \
        FETCH(dy_next, dy_sequence + head * (HEAD_DIM * 2), dy_stride, query, end, TYPE_PRODUCT)              \
        const uint64_t offset = (uint64_t(batch) * a.heads + head) * a.seq_len * 4;                           \
        const uint at_query = min(query + gl_LocalInvocationIndex, end - 1);                                  \
        lse_next = F32(a.lse + offset).v[at_query];                                                           \
        delta_next = F32(a.delta + offset).v[at_query];                                                       \
    }
    if (PREFETCH) FETCH_QUERIES
    do {
        if (!PREFETCH) FETCH_QUERIES
        PUT(q_next, Q_AT, TYPE_PRODUCT)
        PUT(dy_next, DY_AT, TYPE_PRODUCT)
        if (gl_LocalInvocationIndex < STEP) {
            memory[LSE_AT + gl_LocalInvocationIndex / 4][gl_LocalInvocationIndex % 4] = floatBitsToUint(lse_next);
            memory[DELTA_AT + gl_LocalInvocationIndex / 4][gl_LocalInvocationIndex % 4] = floatBitsToUint(delta_next);
        }
        barrier();
        const uint at = query;
        query += STEP;
        if (query >= end) {
            query = first;
            member++;
        }
        if (PREFETCH && member < group) FETCH_QUERIES
        // The same for both subgroups, not for all: only the barriers are.
        const bool seen = at + STEP > low && at < high_end;
        if (seen) SCORES(own_region, own, own_at, pair * R, role == 0 ? Q_AT : DY_AT)
        barrier();
        uvec4 p_packed[PER_LANE * (PART / 8)], ds_packed[PER_LANE * (PART / 8)];
        if (seen) {
            const bool masked = at < high || at + STEP > low_end;
            UNROLL for (uint r = 0; r < PER_LANE; ++r)
                UNROLL for (uint c = 0; c < PART; c += 8) {
                    const uint column = (part * PART + c) / 4, from = own_row[r] * SCORE_LINE + column;
                    vec4 p[2], ds[2];
                    UNROLL for (uint half_ = 0; half_ < 2; ++half_) {
                        const vec4 s = uintBitsToFloat(memory[scores_at + from + half_]), dp = uintBitsToFloat(memory[second_at + from + half_]);
                        p[half_] = exp2(s * scale - uintBitsToFloat(memory[LSE_AT + column + half_]));
                        ds[half_] = p[half_] * (dp - uintBitsToFloat(memory[DELTA_AT + column + half_]));
                        if (masked) {
                            UNROLL for (uint e = 0; e < 4; ++e) {
                                const uint at_query = at + part * PART + c + 4 * half_ + e;
                                const bool sees = at_query >= key[r] && at_query < last[r];
                                p[half_][e] = sees ? p[half_][e] : 0;
                                ds[half_][e] = sees ? ds[half_][e] : 0;
                            }
                        }
                    }
                    p_packed[r * (PART / 8) + c / 8] = pack_weights(p[0], p[1]);
                    ds_packed[r * (PART / 8) + c / 8] = pack_weights(ds[0], ds[1]);
                    if (IN_PLACE) {
                        const uint to = own_row[r] * SCORE_LINE + weights_place(part * PART + c);
                        memory[scores_at + to] = p_packed[r * (PART / 8) + c / 8];
                        memory[second_at + to] = ds_packed[r * (PART / 8) + c / 8];
                    }
                }
        }
        if (!IN_PLACE) {
            barrier();
            if (seen) {
                UNROLL for (uint r = 0; r < PER_LANE; ++r)
                    UNROLL for (uint c = 0; c < PART; c += 8) {
                        const uint to = own_row[r] * SCORE_LINE + weights_place(part * PART + c);
                        memory[scores_at + to] = p_packed[r * (PART / 8) + c / 8];
                        memory[second_at + to] = ds_packed[r * (PART / 8) + c / 8];
                    }
            }
        }
        barrier();
        if (seen) WEIGHTED(sums, own_region, role == 0 ? DY_AT : Q_AT)
        barrier();
    } while (member < group);

    const float factor = role == 0 ? 1 : a.scale;
    UNROLL for (uint i = 0; i < BLOCKS * WIDTHS; ++i) sums[i] = sums[i] * factor;
    UNROLL for (uint i = 0; i < BLOCKS; ++i) {
        const uint row = low + i * TILE_M, column = (a.heads + kv_head + (role == 0 ? a.kv_heads : 0)) * HEAD_DIM;
        const uint64_t offset = ((uint64_t(batch) * a.seq_len + row) * columns + column) * 4;
        const int exist = int(a.seq_len) - int(row);
        STORE_BLOCK(sums, i, a.base + offset, a.dqkv + offset, columns, exist, exist, own_region, lane)
    }
}

#version 460
//! variant attention_units_forward_f16 needs=coopmat
//! variant attention_units_forward_bf16 needs=coopmat,bfloat16 BFLOAT=1
//! variant cached_attention_units_f16 needs=coopmat CACHED=1
//! variant cached_attention_units_bf16 needs=coopmat,bfloat16 BFLOAT=1 CACHED=1
// Causal attention with online softmax on matrix units. A tile has the queries of HEADS heads of one group side by side, so that
// they share the keys. Rows are rescaled only when a maximum has grown by more than 2^8: the weights stay finite, and their
// relative rounding is the same whatever the reference. Grid: (tiles of queries, heads / HEADS, batch), the longest tiles first.
// With CACHED: keys and values come from the cache, queries stand at start + row.
#pragma use_vulkan_memory_model
#include "common.glsl"
#include "ops/attention_units.glsl"
#ifdef CACHED
#include "args/kv_cache.h"
layout(push_constant, scalar) uniform Push { CachedAttentionArgs a; };
layout(constant_id = 14) const uint KV_TYPE = TYPE_F16;
layout(constant_id = 15) const bool COUNTED = false;
#define ROW_COUNT a.tokens
#define Q_TYPE TYPE_F32
#define Q_START a.qkv
#define VALID int(COUNTED ? min(U32(a.count).v[0], a.tokens) : a.tokens)
#define ROUNDED false
#else
#include "args/attention_units.h"
layout(push_constant, scalar) uniform Push { AttentionUnitsArgs a; };
layout(constant_id = 14) const bool ROUNDED = false;  // y, to the type of the products
#define ROW_COUNT a.seq_len
#define Q_TYPE TYPE_PRODUCT
#define KV_TYPE TYPE_PRODUCT
#define Q_START a.x
#define VALID int(a.seq_len)
#endif

const uint ROWS = GROUPS * R, SPAN = ROWS / HEADS;  // SPAN: positions of a tile
const uint PARTS = LANES > R ? LANES / R : 1;       // lanes that share a row
const uint PER_LANE = LANES > R ? 1 : R / LANES;    // rows of a lane
const uint PART = STEP / PARTS;                     // keys of a lane
const uint K_AT = 0, V_AT = TILE_SIZE, REGIONS_AT = 2 * TILE_SIZE, Q_AT = RESIDENT ? 0 : REGIONS_AT + GROUPS * REGION;
const uint WALK_SIZE = REGIONS_AT + GROUPS * REGION, OWN_END = Q_AT + ROWS * LINE;
shared uvec4 memory[OWN_END > WALK_SIZE ? OWN_END : WALK_SIZE];
const float GROWTH = 8;  // log2

void main() {
    const uint lane = gl_SubgroupInvocationID, subgroup = gl_SubgroupID;
    const uint head0 = gl_WorkGroupID.y * HEADS, batch = gl_WorkGroupID.z, kv_head = head0 / (a.heads / a.kv_heads);
    const uint first = ((ROW_COUNT + SPAN - 1) / SPAN - 1 - gl_WorkGroupID.x) * SPAN;
    const uint q_stride = (a.heads + 2 * a.kv_heads) * HEAD_DIM * bytes_of(Q_TYPE);
    const uint64_t sequence = Q_START + uint64_t(batch) * ROW_COUNT * q_stride;
#ifdef CACHED
    const uint position = U32(a.start).v[0];  // of row 0
    uint count = a.tokens;
    if (COUNTED) count = clamp(U32(a.count).v[0], 1, a.tokens);
    const uint kv_stride = a.kv_heads * HEAD_DIM * bytes_of(KV_TYPE);
    const uint64_t keys = a.cache_k + kv_head * HEAD_DIM * bytes_of(KV_TYPE);
    const uint64_t values = a.cache_v + kv_head * HEAD_DIM * bytes_of(KV_TYPE);
    const uint end = clamp(position + min(first + SPAN, count), 1, a.max_positions);
    const bool anything = first < count;
#else
    const uint position = 0, count = a.seq_len;
    const uint kv_stride = q_stride;
    const uint64_t keys = sequence + (a.heads + kv_head) * HEAD_DIM * 2;
    const uint64_t values = keys + a.kv_heads * HEAD_DIM * 2;
    const uint64_t starts = a.document_start + uint64_t(batch) * a.seq_len * 4;
    const uint end = min(first + SPAN, a.seq_len);
    const bool anything = true;
#endif
    const uint region = REGIONS_AT + subgroup * REGION, part = LANES > R ? lane / R : 0;
    // The positions of the subgroup's rows.
    const uint low = first + subgroup * BLOCKS / HEADS * TILE_M;
    const uint high = first + (subgroup * BLOCKS + BLOCKS - 1) / HEADS * TILE_M + TILE_M - 1;

    MATRIX_A own[RESIDENT ? BLOCKS * DEPTHS : 1];
    // Rows that are not there are read as the last one that is.
    STAGE(Q_AT, ROWS, sequence + uint64_t(min(first + row / (TILE_M * HEADS) * TILE_M + row % TILE_M, count - 1)) * q_stride + (head0 + row / TILE_M % HEADS) * HEAD_DIM * bytes_of(Q_TYPE), Q_TYPE)
    if (RESIDENT) {
        barrier();
        LOAD_OWN(own, Q_AT, subgroup * R)
        barrier();
    }
    MATRIX_C sums[BLOCKS * WIDTHS];
    UNROLL for (uint i = 0; i < BLOCKS * WIDTHS; ++i) sums[i] = MATRIX_C(0.0);

    uint own_row[PER_LANE], query[PER_LANE], start[PER_LANE];
    float top[PER_LANE], sum[PER_LANE];
    uint low_start = 0, high_start = 0, key = 0;
    UNROLL for (uint r = 0; r < PER_LANE; ++r) {
        own_row[r] = LANES > R ? lane % R : lane + r * LANES;
        const uint row = subgroup * R + own_row[r];
        query[r] = position + min(first + row / (TILE_M * HEADS) * TILE_M + row % TILE_M, count - 1);
        start[r] = 0;
        top[r] = -1e30;
        sum[r] = 0;
    }
#ifndef CACHED
    if (DOCUMENTS) {  // documents follow one another: starts never decrease
        key = uint(I32(starts).v[first]);
        low_start = uint(I32(starts).v[min(low, count - 1)]);
        high_start = uint(I32(starts).v[min(high, count - 1)]);
        UNROLL for (uint r = 0; r < PER_LANE; ++r) start[r] = uint(I32(starts).v[query[r]]);
    }
#endif
    const float scale = a.scale * LOG2E, hidden = -2e30 / scale;
    Chunk k_next[FETCHES], v_next[FETCHES];
    if (PREFETCH) {
        FETCH(k_next, keys, kv_stride, key, end, KV_TYPE)
        FETCH(v_next, values, kv_stride, key, end, KV_TYPE)
    }
    if (anything) do {
        if (!PREFETCH) {
            FETCH(k_next, keys, kv_stride, key, end, KV_TYPE)
            FETCH(v_next, values, kv_stride, key, end, KV_TYPE)
        }
        PUT(k_next, K_AT, KV_TYPE)
        PUT(v_next, V_AT, KV_TYPE)
        barrier();
        const uint at = key;
        key += STEP;
        if (PREFETCH && key < end) {
            FETCH(k_next, keys, kv_stride, key, end, KV_TYPE)
            FETCH(v_next, values, kv_stride, key, end, KV_TYPE)
        }
        if (at <= position + high && at + STEP > low_start) {
            SCORES(region, own, Q_AT, subgroup * R, K_AT)
            meet_subgroup();
            vec4 s[PER_LANE * (PART / 4)];
            const bool masked = at + STEP > position + low + 1 || at < high_start || at + STEP > end;
            bool moved = false;
            float keep[PER_LANE];
            UNROLL for (uint r = 0; r < PER_LANE; ++r) {
                UNROLL for (uint c = 0; c < PART / 4; ++c)
                    s[r * (PART / 4) + c] = uintBitsToFloat(memory[region + own_row[r] * SCORE_LINE + part * (PART / 4) + c]);
                if (masked) {
                    UNROLL for (uint c = 0; c < PART / 4; ++c)
                        UNROLL for (uint e = 0; e < 4; ++e) {
                            const uint k = at + part * PART + 4 * c + e;
                            s[r * (PART / 4) + c][e] = k <= query[r] && k >= start[r] ? s[r * (PART / 4) + c][e] : hidden;
                        }
                }
                vec4 tops = s[r * (PART / 4)];
                UNROLL for (uint c = 1; c < PART / 4; ++c) tops = max(tops, s[r * (PART / 4) + c]);
                float new_top = max(max(tops.x, tops.y), max(tops.z, tops.w));
                UNROLL for (uint m = R; m < LANES; m *= 2) new_top = max(new_top, subgroupShuffleXor(new_top, m));
                new_top *= scale;
                keep[r] = 1;
                if (new_top > top[r] + GROWTH) {
                    moved = moved || top[r] > -1e29;
                    keep[r] = exp2(top[r] - new_top);
                    top[r] = new_top;
                    sum[r] *= keep[r];
                }
            }
            if (subgroupBallot(moved) != uvec4(0)) {
                meet_subgroup();
                UNROLL for (uint r = 0; r < PER_LANE; ++r)
                    UNROLL for (uint c = 0; c < TILE_N / 4; ++c)
                        memory[region + own_row[r] * (TILE_N / 4) + c] = uvec4(floatBitsToUint(keep[r]));
                meet_subgroup();
                UNROLL for (uint i = 0; i < BLOCKS; ++i) {
                    MATRIX_C factors;
                    coopMatLoad(factors, memory, region + i * (TILE_M * TILE_N / 4), TILE_N / 4, gl_CooperativeMatrixLayoutRowMajor);
                    UNROLL for (uint j = 0; j < WIDTHS; ++j) sums[i * WIDTHS + j] = sums[i * WIDTHS + j] * factors;
                }
                meet_subgroup();
            }
            UNROLL for (uint r = 0; r < PER_LANE; ++r)
                UNROLL for (uint c = 0; c < PART / 4; c += 2) {
                    const vec4 p0 = exp2(s[r * (PART / 4) + c] * scale - top[r]), p1 = exp2(s[r * (PART / 4) + c + 1] * scale - top[r]);
                    const vec4 both = p0 + p1;
                    sum[r] += (both.x + both.y) + (both.z + both.w);
                    memory[region + own_row[r] * SCORE_LINE + weights_place(part * PART + 4 * c)] = pack_weights(p0, p1);
                }
            meet_subgroup();
            WEIGHTED(sums, region, V_AT)
        }
        barrier();
    } while (key < end);

    UNROLL for (uint r = 0; r < PER_LANE; ++r) {
        UNROLL for (uint m = R; m < LANES; m *= 2) sum[r] += subgroupShuffleXor(sum[r], m);
        const float inverse = 1 / sum[r];
        UNROLL for (uint c = 0; c < TILE_N / 4; ++c) memory[region + own_row[r] * (TILE_N / 4) + c] = uvec4(floatBitsToUint(inverse));
#ifndef CACHED
        const uint row = subgroup * R + own_row[r], at = first + row / (TILE_M * HEADS) * TILE_M + row % TILE_M;
        if (part == 0 && at < a.seq_len && a.lse != 0)
            F32(a.lse + (uint64_t(batch) * a.heads + head0 + row / TILE_M % HEADS) * a.seq_len * 4).v[at] = top[r] + log2(sum[r]);
#endif
    }
    meet_subgroup();
    UNROLL for (uint i = 0; i < BLOCKS; ++i) {
        MATRIX_C factors;
        coopMatLoad(factors, memory, region + i * (TILE_M * TILE_N / 4), TILE_N / 4, gl_CooperativeMatrixLayoutRowMajor);
        UNROLL for (uint j = 0; j < WIDTHS; ++j) sums[i * WIDTHS + j] = sums[i * WIDTHS + j] * factors;
    }
    UNROLL for (uint i = 0; i < BLOCKS; ++i) {
        const uint block = subgroup * BLOCKS + i, row = first + block / HEADS * TILE_M, head = head0 + block % HEADS;
        const uint64_t to = a.y + ((uint64_t(batch) * ROW_COUNT + row) * a.heads + head) * (HEAD_DIM * (ROUNDED ? 2 : 4));
        const int exist = int(ROW_COUNT) - int(row);
        if (ROUNDED) {
            STORE_ROUNDED(sums, i, to, a.heads * HEAD_DIM, exist, region, lane)
        } else {
            STORE_BLOCK(sums, i, to, to, a.heads * HEAD_DIM, exist, VALID - int(row), region, lane)
        }
    }
}

#version 460
//! variant decode_attention_f32 CACHE_f32
//! variant decode_attention_f16 CACHE_f16
//! variant decode_attention_bf16 CACHE_bf16
//! variant decode_attention_i8 CACHE_i8
//! variant decode_attention_fused_f32 CACHE_f32 FUSED
//! variant decode_attention_fused_f16 CACHE_f16 FUSED
//! variant decode_attention_fused_bf16 CACHE_bf16 FUSED
//! variant decode_attention_fused_i8 CACHE_i8 FUSED
// Attention of one new token of each sequence: the context is cut into parts, a workgroup takes one part for HEADS heads that share
// keys and values. A key's row lies across SPLIT lanes; a subgroup works on STEP * LANES / SPLIT keys at once, each group of SPLIT
// lanes ("slot") with sums of its own, joined at the end. The first part's workgroup also writes the new key and value and starts
// from them: nobody reads them from the cache. FUSED: the last workgroup of a head group to finish joins the parts.
// Grid: (heads / HEADS, PARTS, sequences); parts that the context does not need end at once.
#ifdef FUSED
#pragma use_vulkan_memory_model
#extension GL_KHR_memory_scope_semantics : require
#endif
#include "ops/decode_attention_parts.glsl"
#include "ops/decode_attention_cache.glsl"
#include "ops/dot_add.glsl"
#include "args/decode_attention.h"
layout(constant_id = 5) const uint SUBGROUPS = 1;     // 1: no shared memory, no barrier of the workgroup
layout(constant_id = 6) const uint SPLIT = 1;         // power of two
layout(constant_id = 7) const uint HEADS = 1;         // divides heads / kv_heads
layout(constant_id = 8) const uint STEP = 1;          // keys of a slot at once
layout(constant_id = 9) const bool VECTOR = false;    // all rows aligned to 16 bytes, head_dim a multiple of 8 and of PIECE
layout(constant_id = 10) const bool AHEAD = false;    // load the next keys before the values' turn
layout(push_constant, scalar) uniform Push { DecodeAttentionArgs a; };

const uint LANES = gl_WorkGroupSize.x / SUBGROUPS;
const uint SLOTS = LANES / SPLIT;
const uint HALF = HEAD_DIM / 2;
const uint ROW_PIECES = (HEAD_DIM + PIECE - 1) / PIECE;
const uint PIECES = (ROW_PIECES + SPLIT - 1) / SPLIT;  // of a lane: those with numbers i * SPLIT + share
const uint MINE = PIECES * QUADS;                      // vectors of four of a lane
const uint PADDED = PIECES * SPLIT * QUADS;            // vectors of four of a row, with what lies behind its end
#define LOWEST -1e30

// Invocations that share a vector of the result when parts are joined.
const uint JOINERS = gl_WorkGroupSize.x >= 2 * HEADS * ROW_VECTORS ? gl_WorkGroupSize.x / (HEADS * ROW_VECTORS) : 1;
const uint SUMS = SUBGROUPS * HEADS * PADDED;

shared vec4 shared_q[SUBGROUPS == 1 ? 1 : HEADS * PADDED];
shared vec4 shared_sums[SUBGROUPS == 1 ? 1 : SUMS > gl_WorkGroupSize.x ? SUMS : gl_WorkGroupSize.x];
shared float shared_tops[SUBGROUPS == 1 ? 1 : SUBGROUPS * HEADS];
shared float shared_weights[SUBGROUPS == 1 ? 1 : HEADS * (PARTS > SUBGROUPS ? PARTS : SUBGROUPS)];
shared uint shared_last;

uint lane, share, slot;

// Four elements of a row of floats from d on; 0 behind its end.
vec4 floats(uint64_t row, uint d) {
    if (VECTOR) return F32x4(row).v[min(d, HEAD_DIM - 4) / 4] * (d < HEAD_DIM ? 1.0 : 0.0);
    vec4 x;
    UNROLL for (uint c = 0; c < 4; ++c) x[c] = mix(0.0, F32(row).v[min(d + c, HEAD_DIM - 1)], d + c < HEAD_DIM);
    return x;
}

// Four elements of a row from d on and the four that they are rotated with.
void load_pairs(uint64_t row, uint d, out vec4 x, out vec4 y) {
    if (VECTOR) {
        const uint at = min(d, HEAD_DIM - 4), pair = at < HALF ? at + HALF : at - HALF;
        x = F32x4(row).v[at / 4], y = F32x4(row).v[pair / 4];
        return;
    }
    UNROLL for (uint e = 0; e < 4; ++e) {
        const uint at = min(d + e, HEAD_DIM - 1), pair = at < HALF ? at + HALF : at - HALF;
        x[e] = F32(row).v[at], y[e] = F32(row).v[pair];
    }
}
// These rotated; 0 behind the row's end.
vec4 rotate(vec4 x, vec4 y, uint64_t angles, uint d) {
    if (VECTOR) {
        const uint at = min(d, HEAD_DIM - 4), pair = at < HALF ? at + HALF : at - HALF, angle = min(at, pair);
        const vec4 c = F32x4(angles).v[angle / 4], s = F32x4(angles).v[(angle + HALF) / 4];
        return mix(mix(x * c + y * s, x * c - y * s, bvec4(at < HALF)), vec4(0), bvec4(d >= HEAD_DIM));
    }
    vec4 z;
    UNROLL for (uint e = 0; e < 4; ++e) {
        const uint at = min(d + e, HEAD_DIM - 1), pair = at < HALF ? at + HALF : at - HALF, angle = min(at, pair);
        const float c = F32(angles).v[angle], s = F32(angles).v[angle + HALF];
        z[e] = mix(mix(x[e] * c + y[e] * s, x[e] * c - y[e] * s, at < HALF), 0.0, d + e >= HEAD_DIM);
    }
    return z;
}
vec4 rotated(uint64_t row, uint64_t angles, uint d) {
    vec4 x, y;
    load_pairs(row, d, x, y);
    return rotate(x, y, angles, d);
}

uint element(uint i, uint h) { return ((i * SPLIT + share) * QUADS + h) * 4; }  // of vector h of this lane's piece i
uint piece_index(uint i) { return ROW_PIECES % SPLIT == 0 ? i * SPLIT + share : min(i * SPLIT + share, ROW_PIECES - 1); }

// Piece i of this lane of a key or value.
uvec4 piece_of(uint64_t cache, uint stride, uint key, uint i) {
    return load_piece(cache + uint64_t(key) * stride, piece_index(i), HEAD_DIM, VECTOR);
}

float slot_sum(float x) {
    UNROLL for (uint m = 1; m < SPLIT; m *= 2) x += subgroupShuffleXor(x, m);
    return x;
}
float slots_sum(float x) {
    UNROLL for (uint m = SPLIT; m < LANES; m *= 2) x += subgroupShuffleXor(x, m);
    return x;
}
float slots_max(float x) {
    UNROLL for (uint m = SPLIT; m < LANES; m *= 2) x = max(x, subgroupShuffleXor(x, m));
    return x;
}

// Rounds a new row, which lies across the lanes of each slot, to what the cache holds; writes it if `write`.
void to_cache(inout vec4 x[MINE], uint64_t row, uint64_t scale_at, bool write) {
#ifdef CACHE_i8
    float largest = 0;
    UNROLL for (uint i = 0; i < MINE; ++i)
        largest = max(largest, max(max(abs(x[i].x), abs(x[i].y)), max(abs(x[i].z), abs(x[i].w))));
    UNROLL for (uint m = 1; m < SPLIT; m *= 2) largest = max(largest, subgroupShuffleXor(largest, m));
    const float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
    UNROLL for (uint i = 0; i < MINE; ++i) x[i] = clamp(roundEven(x[i] * inverse), -127, 127);
    if (write && share == 0) F32(scale_at).v[0] = scale;
#else
    const float scale = 1;
#endif
    const uint zero = a.max_positions >> 31;  // compilers may drop a conversion and its inverse, with the rounding
    UNROLL for (uint i = 0; i < PIECES; ++i) {
        vec4 of_piece[QUADS];
        UNROLL for (uint h = 0; h < QUADS; ++h) of_piece[h] = x[i * QUADS + h];
        const uvec4 packed = pack(of_piece) ^ zero;
        UNROLL for (uint h = 0; h < QUADS; ++h) x[i * QUADS + h] = quad(packed, h) * scale;
        if (write && i * SPLIT + share < ROW_PIECES) store_piece(row, i * SPLIT + share, packed, HEAD_DIM, VECTOR);
    }
}

void store_floats(uint64_t row, uint at, vec4 x) {
    if (VECTOR) {
        F32x4(row).v[at] = x;
        return;
    }
    UNROLL for (uint c = 0; c < 4; ++c)
        if (4 * at + c < HEAD_DIM) F32(row).v[4 * at + c] = x[c];
}

// Vector `at` of head r: the weighted sum of parts first, first + JOINERS, ..., eight loads at once.
vec4 sum_of_parts(uint64_t sums, uint r, uint at, uint first, uint count) {
    vec4 x = vec4(0);
    for (uint p = first; p < count; p += 8 * JOINERS) {
        vec4 of_part[8];
        UNROLL for (uint j = 0; j < 8; ++j)
            of_part[j] = PartialF32x4(sums).v[min(p + j * JOINERS, count - 1) * ROW_VECTORS + at];
        UNROLL for (uint j = 0; j < 8; ++j)
            if (p + j * JOINERS < count) x += shared_weights[r * PARTS + p + j * JOINERS] * of_part[j];
    }
    return x;
}

// All of the workgroup have written their partial sums: whether this workgroup is the last of `count` to have done so. The
// counter is 0 again then.
bool is_last(uint64_t counter, uint count) {
#ifdef FUSED
    const int semantics = gl_StorageSemanticsBuffer | gl_StorageSemanticsShared;
    uint before = 0;
    if (SUBGROUPS == 1) {
        controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, semantics, gl_SemanticsAcquireRelease);
        if (lane == 0)
            before = atomicAdd(U32(counter).v[0], 1u, gl_ScopeQueueFamily, gl_StorageSemanticsBuffer, gl_SemanticsAcquireRelease);
        before = subgroupBroadcastFirst(before);
        controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, semantics, gl_SemanticsAcquireRelease);
    } else {
        controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup, semantics, gl_SemanticsAcquireRelease);
        if (gl_LocalInvocationIndex == 0)
            shared_last =
                atomicAdd(U32(counter).v[0], 1u, gl_ScopeQueueFamily, gl_StorageSemanticsBuffer, gl_SemanticsAcquireRelease);
        controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup, semantics, gl_SemanticsAcquireRelease);
        before = shared_last;
    }
    if (before + 1 != count) return false;
    if (gl_LocalInvocationIndex == 0) U32(counter).v[0] = 0;
    return true;
#else
    return false;
#endif
}

void main() {
    lane = gl_SubgroupInvocationID;
    share = SPLIT == 1 ? 0 : lane % SPLIT;
    slot = SPLIT == 1 ? lane : lane / SPLIT;
    const uint subgroup = SUBGROUPS == 1 ? 0 : gl_SubgroupID;
    const uint thread = subgroup * LANES + lane, threads = gl_WorkGroupSize.x;
    const uint head = gl_WorkGroupID.x * HEADS, part = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
    const uint sequences = gl_NumWorkGroups.z;
    const uint64_t y = a.y + (uint64_t(row) * a.heads + head) * (HEAD_DIM * 4);
    const uint group = a.heads / a.kv_heads, kv_head = head / group;
    const uint64_t qkv = a.qkv + uint64_t(row) * ((a.heads + 2 * a.kv_heads) * HEAD_DIM * 4);
    // What does not depend on the position is on its way before that is known.
    const uint64_t new_key = qkv + (a.heads + kv_head) * (HEAD_DIM * 4), new_value = new_key + a.kv_heads * (HEAD_DIM * 4);
    vec4 q_x, q_y, key_x[MINE], key_y[MINE], value[MINE];
    if (SUBGROUPS > 1) {
        const uint mine = min(thread, HEADS * PADDED - 1);
        load_pairs(qkv + (head + mine / PADDED) * (HEAD_DIM * 4), thread % PADDED * 4, q_x, q_y);
    }
    if (part == 0 && subgroup == 0) {
        UNROLL for (uint i = 0; i < PIECES; ++i)
            UNROLL for (uint h = 0; h < QUADS; ++h) {
                load_pairs(new_key, element(i, h), key_x[i * QUADS + h], key_y[i * QUADS + h]);
                value[i * QUADS + h] = floats(new_value, element(i, h));
            }
    }
    const uint position = U32(a.positions).v[row];
    const bool live = position < a.max_positions;
    const uint keys = live ? position : 0;  // without the new one
    const uint length = part_length(keys), begin = part * length;
    if (part > 0 && begin >= keys) return;
    if (!live) {
        for (uint i = thread; i < HEADS * HEAD_DIM; i += threads) F32(y).v[i] = 0;
        return;
    }
    const uint end = min(begin + length, keys), last = max(end, 1) - 1;
    const uint kv_stride = a.kv_heads * (HEAD_DIM * 16 / PIECE);  // bytes
    const uint64_t cache_row = (uint64_t(row) * a.max_positions) * kv_stride + kv_head * (HEAD_DIM * 16 / PIECE);
    const uint64_t cache_k = a.cache_k + cache_row, cache_v = a.cache_v + cache_row;
    const uint64_t scales = (uint64_t(row) * a.kv_heads + kv_head) * a.max_positions * 4;
    const uint64_t angles = a.table + uint64_t(min(position, a.table_positions - 1)) * (HEAD_DIM * 4);

    uint first = begin + subgroup * (STEP * SLOTS), key = first + slot;
    uvec4 k[STEP * PIECES], v[STEP * PIECES];
    if (AHEAD && first < end) {
        UNROLL for (uint j = 0; j < STEP; ++j)
            UNROLL for (uint i = 0; i < PIECES; ++i)
                k[j * PIECES + i] = piece_of(cache_k, kv_stride, min(key + j * SLOTS, last), i);
    }

    vec4 q[HEADS * MINE], acc[HEADS * MINE];
    float top[HEADS], sum[HEADS];
    if (SUBGROUPS == 1) {
        UNROLL for (uint r = 0; r < HEADS; ++r)
            UNROLL for (uint i = 0; i < PIECES; ++i)
                UNROLL for (uint h = 0; h < QUADS; ++h)
                    q[r * MINE + i * QUADS + h] = rotated(qkv + (head + r) * (HEAD_DIM * 4), angles, element(i, h)) * a.scale;
    } else {
        if (thread < HEADS * PADDED) shared_q[thread] = rotate(q_x, q_y, angles, thread % PADDED * 4) * a.scale;
        for (uint i = thread + threads; i < HEADS * PADDED; i += threads)
            shared_q[i] = rotated(qkv + (head + i / PADDED) * (HEAD_DIM * 4), angles, i % PADDED * 4) * a.scale;
        barrier();
        UNROLL for (uint r = 0; r < HEADS; ++r)
            UNROLL for (uint i = 0; i < PIECES; ++i)
                UNROLL for (uint h = 0; h < QUADS; ++h) q[r * MINE + i * QUADS + h] = shared_q[r * PADDED + element(i, h) / 4];
    }
    UNROLL for (uint r = 0; r < HEADS; ++r) {
        top[r] = LOWEST;
        sum[r] = 0;
        UNROLL for (uint i = 0; i < MINE; ++i) acc[r * MINE + i] = vec4(0);
    }

    if (part == 0 && subgroup == 0) {  // the new key and value: slot 0 starts from them
        const bool write = head % group == 0 && slot == 0;
        vec4 x[MINE];
        UNROLL for (uint i = 0; i < PIECES; ++i)
            UNROLL for (uint h = 0; h < QUADS; ++h)
                x[i * QUADS + h] = rotate(key_x[i * QUADS + h], key_y[i * QUADS + h], angles, element(i, h));
        to_cache(x, cache_k + uint64_t(position) * kv_stride, a.scales_k + scales + uint64_t(position) * 4, write);
        UNROLL for (uint r = 0; r < HEADS; ++r) {
            float s = 0;
            UNROLL for (uint i = 0; i < MINE; ++i) s = dot_add(s, q[r * MINE + i], x[i]);
            s = slot_sum(s);
            top[r] = mix(LOWEST, s, slot == 0);
            sum[r] = mix(0.0, 1.0, slot == 0);
        }
        UNROLL for (uint i = 0; i < MINE; ++i) x[i] = value[i];
        to_cache(x, cache_v + uint64_t(position) * kv_stride, a.scales_v + scales + uint64_t(position) * 4, write);
        UNROLL for (uint r = 0; r < HEADS; ++r)
            UNROLL for (uint i = 0; i < MINE; ++i) acc[r * MINE + i] = mix(vec4(0), x[i], bvec4(slot == 0));
    }

    if (first < end) {
        do {
            if (AHEAD) {
                UNROLL for (uint j = 0; j < STEP; ++j)
                    UNROLL for (uint i = 0; i < PIECES; ++i) v[j * PIECES + i] = piece_of(cache_v, kv_stride, min(key + j * SLOTS, last), i);
            }
#ifdef CACHE_i8
            float scale_k[STEP], scale_v[STEP];
            UNROLL for (uint j = 0; j < STEP; ++j) {
                scale_k[j] = F32(a.scales_k + scales).v[min(key + j * SLOTS, last)];
                scale_v[j] = F32(a.scales_v + scales).v[min(key + j * SLOTS, last)];
            }
#endif
            float s[HEADS * STEP];
            UNROLL for (uint n = 0; n < HEADS * STEP; ++n) s[n] = 0;
            UNROLL for (uint i = 0; i < PIECES; ++i)
                UNROLL for (uint j = 0; j < STEP; ++j) {
                    if (!AHEAD) k[j * PIECES + i] = piece_of(cache_k, kv_stride, min(key + j * SLOTS, last), i);
                    UNROLL for (uint h = 0; h < QUADS; ++h) {
                        const vec4 x = quad(k[j * PIECES + i], h);
                        UNROLL for (uint r = 0; r < HEADS; ++r)
                            s[r * STEP + j] = dot_add(s[r * STEP + j], q[r * MINE + i * QUADS + h], x);
                    }
                }
            const uint next = key + STEP * SLOTS * SUBGROUPS;
            if (AHEAD) {
                UNROLL for (uint j = 0; j < STEP; ++j)
                    UNROLL for (uint i = 0; i < PIECES; ++i)
                        k[j * PIECES + i] = piece_of(cache_k, kv_stride, min(next + j * SLOTS, last), i);
            }
            UNROLL for (uint r = 0; r < HEADS; ++r) {
                float new_top = top[r];
                UNROLL for (uint j = 0; j < STEP; ++j) {
                    s[r * STEP + j] = slot_sum(s[r * STEP + j]);
#ifdef CACHE_i8
                    s[r * STEP + j] *= scale_k[j];
#endif
                    s[r * STEP + j] = mix(2 * LOWEST, s[r * STEP + j], key + j * SLOTS < end);
                    new_top = max(new_top, s[r * STEP + j]);
                }
                const float keep = exp2(top[r] - new_top);
                top[r] = new_top;
                sum[r] *= keep;
                UNROLL for (uint j = 0; j < STEP; ++j) {
                    s[r * STEP + j] = exp2(s[r * STEP + j] - new_top);
                    sum[r] += s[r * STEP + j];
#ifdef CACHE_i8
                    s[r * STEP + j] *= scale_v[j];
#endif
                }
                UNROLL for (uint i = 0; i < MINE; ++i) acc[r * MINE + i] *= keep;
            }
            UNROLL for (uint i = 0; i < PIECES; ++i)
                UNROLL for (uint j = 0; j < STEP; ++j) {
                    if (!AHEAD) v[j * PIECES + i] = piece_of(cache_v, kv_stride, min(key + j * SLOTS, last), i);
                    UNROLL for (uint h = 0; h < QUADS; ++h) {
                        const vec4 x = quad(v[j * PIECES + i], h);
                        UNROLL for (uint r = 0; r < HEADS; ++r) acc[r * MINE + i * QUADS + h] += s[r * STEP + j] * x;
                    }
                }
            key = next;
            first += STEP * SLOTS * SUBGROUPS;
        } while (first < end);
    }

    // The slots' sums become one, then the subgroups'.
    float all[HEADS];
    UNROLL for (uint r = 0; r < HEADS; ++r) all[r] = slots_max(top[r]);
    if (SUBGROUPS > 1) {
        if (lane == 0) {
            UNROLL for (uint r = 0; r < HEADS; ++r) shared_tops[subgroup * HEADS + r] = all[r];
        }
        barrier();
        UNROLL for (uint r = 0; r < HEADS; ++r)
            UNROLL for (uint w = 0; w < SUBGROUPS; ++w) all[r] = max(all[r], shared_tops[w * HEADS + r]);
    }
    UNROLL for (uint r = 0; r < HEADS; ++r) {
        const float keep = exp2(top[r] - all[r]);
        sum[r] = slots_sum(sum[r] * keep);
        UNROLL for (uint i = 0; i < MINE; ++i)
            UNROLL for (uint c = 0; c < 4; ++c) acc[r * MINE + i][c] = slots_sum(acc[r * MINE + i][c] * keep);
    }
    const uint count = part_count(keys, length);
    const uint64_t index = uint64_t(row) * a.heads + head;
    const uint64_t sums = a.partial + index * PARTIAL_ROW, stats = stats_of(a.partial, sequences * a.heads, index);
    if (SUBGROUPS == 1) {
        if (slot == 0) {
            UNROLL for (uint r = 0; r < HEADS; ++r) {
                const float inverse = 1 / sum[r];
                UNROLL for (uint i = 0; i < MINE; ++i)
                    UNROLL for (uint c = 0; c < 4; ++c) {
                        const uint d = element(i / QUADS, i % QUADS) + c;
                        if (d < HEAD_DIM) {
                            if (count == 1) F32(y).v[r * HEAD_DIM + d] = acc[r * MINE + i][c] * inverse;
                            else PartialF32(sums + r * PARTIAL_ROW).v[part * (4 * ROW_VECTORS) + d] = acc[r * MINE + i][c];
                        }
                    }
                if (count > 1 && share == 0) PartialF32x2(stats + r * (PARTS * 8)).v[part] = vec2(all[r], sum[r]);
            }
        }
    } else {
        if (slot == 0) {
            UNROLL for (uint r = 0; r < HEADS; ++r) {
                UNROLL for (uint i = 0; i < MINE; ++i)
                    shared_sums[(subgroup * HEADS + r) * PADDED + element(i / QUADS, i % QUADS) / 4] = acc[r * MINE + i];
                if (share == 0) shared_weights[subgroup * HEADS + r] = sum[r];
            }
        }
        barrier();
        for (uint u = thread; u < HEADS * ROW_VECTORS; u += threads) {
            const uint r = u / ROW_VECTORS, at = u % ROW_VECTORS;
            vec4 x = vec4(0);
            float total = 0;
            UNROLL for (uint w = 0; w < SUBGROUPS; ++w) {
                x += shared_sums[(w * HEADS + r) * PADDED + at];
                total += shared_weights[w * HEADS + r];
            }
            if (count == 1) store_floats(y + r * (HEAD_DIM * 4), at, x / total);
            else PartialF32x4(sums + r * PARTIAL_ROW).v[part * ROW_VECTORS + at] = x;
        }
        if (count > 1 && thread < HEADS) {
            float total = 0, of_head = all[0];
            UNROLL for (uint r = 1; r < HEADS; ++r) of_head = thread == r ? all[r] : of_head;
            UNROLL for (uint w = 0; w < SUBGROUPS; ++w) total += shared_weights[w * HEADS + thread];
            PartialF32x2(stats + thread * (PARTS * 8)).v[part] = vec2(of_head, total);
        }
    }
    if (count == 1 || !is_last(a.counters + (row * gl_NumWorkGroups.x + gl_WorkGroupID.x) * 4, count)) return;

    if (SUBGROUPS == 1) {
        uint i = lane;
        do {
            const uint r = min(i, HEADS * HEAD_DIM - 1) / HEAD_DIM, d = min(i, HEADS * HEAD_DIM - 1) % HEAD_DIM;
            const float x = joined(sums + r * PARTIAL_ROW, stats + r * (PARTS * 8), count, d);
            if (i < HEADS * HEAD_DIM) F32(y).v[i] = x;
            i += LANES;
        } while (i < HEADS * HEAD_DIM + lane);
        return;
    }
    // A subgroup makes the weights of a head's parts, then all invocations sum the parts.
    for (uint r = subgroup; r < HEADS; r += SUBGROUPS) {
        float highest = LOWEST, total = 0;
        for (uint p = lane; p < count; p += LANES) highest = max(highest, PartialF32x2(stats + r * (PARTS * 8)).v[p].x);
        highest = subgroupMax(highest);
        for (uint p = lane; p < count; p += LANES) {
            const vec2 of_part = PartialF32x2(stats + r * (PARTS * 8)).v[p];
            const float weight = exp2(of_part.x - highest);
            shared_weights[r * PARTS + p] = weight;
            total += weight * of_part.y;
        }
        total = subgroupAdd(total);
        if (lane == 0) shared_tops[r] = 1 / total;
    }
    barrier();
    const uint units = HEADS * ROW_VECTORS;
    if (JOINERS > 1) {
        const uint joiner = thread / units, u = thread % units, r = u / ROW_VECTORS;
        if (joiner < JOINERS) shared_sums[thread] = sum_of_parts(sums + r * PARTIAL_ROW, r, u % ROW_VECTORS, joiner, count);
        barrier();
        if (joiner == 0) {
            vec4 x = shared_sums[u];
            UNROLL for (uint j = 1; j < JOINERS; ++j) x += shared_sums[j * units + u];
            store_floats(y + r * (HEAD_DIM * 4), u % ROW_VECTORS, x * shared_tops[r]);
        }
    } else {
        for (uint u = thread; u < units; u += threads) {
            const uint r = u / ROW_VECTORS, at = u % ROW_VECTORS;
            const vec4 x = sum_of_parts(sums + r * PARTIAL_ROW, r, at, 0, count);
            store_floats(y + r * (HEAD_DIM * 4), at, x * shared_tops[r]);
        }
    }
}

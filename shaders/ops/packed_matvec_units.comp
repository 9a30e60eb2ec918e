#version 460
//! variant packed_matvec_units_1 needs=coopmat BITS=1
//! variant packed_matvec_units_2 needs=coopmat BITS=2
//! variant packed_matvec_units_3 needs=coopmat BITS=3
//! variant packed_matvec_units_4 needs=coopmat BITS=4
//! variant packed_matvec_units_8 needs=coopmat BITS=8
// y = x W^T for up to 8 tokens, W packed in tiles (runtime/ops/packed_linear.h), on matrix units of 16 x 8 x 16 whose elements
// lie in the lanes as runtime/ops/matrix_fragments.h says: then weights become elements where they are looked up, without a way
// through shared memory, and products and sums cost next to nothing.
// Lane 4 g + q has rows g, g + 8, g + 16, g + 24 of a tile, and of each unit of 64 columns the 16 from 16 q on: eight pairs, of
// which products take two at a time. A unit lies within a block, so sums of a unit are multiplied with the row's scale.
// 2, 3, 4, 8 bits: fp16 weights from a table in shared memory, as in packed_matvec.comp. 1 bit: a bit of the weight is a bit of
// an fp16 number, so that masking makes two elements; activations carry what that number is to be multiplied with.
// Activations are fp16 with a power of two for each unit; sums are fp32. Subgroups share the columns, step by step of 128.
// Grid: (tiles / (TILES * TURNS), 1, groups of TOKENS).
#pragma use_vulkan_memory_model
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#include "common.glsl"
#include "args/packed_linear.h"
layout(push_constant, scalar) uniform Push { PackedLinearArgs a; };
layout(constant_id = 1) const uint TOKENS = 1;      // at most 8
layout(constant_id = 2) const uint TILES = 1;       // tiles of a workgroup, all of one part
layout(constant_id = 3) const uint DEPTH = 1;       // steps of weights on their way
layout(constant_id = 4) const uint SLAB = 4096;     // columns of x in shared memory: a multiple of 4 * width * DEPTH
layout(constant_id = 5) const uint COPIES_LOG = 5;  // copies of the table
layout(constant_id = 6) const uint BLOCK_UNITS = 1; // block_size / 64
layout(constant_id = 7) const uint NORM = 0;
layout(constant_id = 8) const bool VECTOR = true;
layout(constant_id = 9) const bool SWIGLU = false;
layout(constant_id = 10) const uint TURNS = 1;  // a workgroup takes so many times TILES tiles, one after another, in one part
layout(constant_id = 11) const bool WHOLE_STEPS = false;  // in_cols is a multiple of 128
#define UNROLL [[unroll]]
#include "ops/packed.glsl"
#include "ops/linear_input.glsl"

#if BITS == 2
#define ENTRY uvec2
#elif BITS > 2
#define ENTRY uint
#endif
const uint PARTS = gl_WorkGroupSize.x / 32;
const uint SLAB_STEPS = SLAB / STEP_COLUMNS, STEPS_EACH = SLAB_STEPS / PARTS;
const uint UNIT = 64, X_STRIDE = SLAB / 8 + (TOKENS > 1 ? 1 : 0);  // of a token: tokens begin in different banks
const uint COLUMNS = TOKENS > 1 ? 2 : 1;                            // of a lane's sums

shared uvec4 xs[TOKENS * X_STRIDE];          // fp16
shared float x_scale[TOKENS * SLAB / UNIT];  // power of two of a unit
#if BITS == 1
shared float x_sum[TOKENS * SLAB / UNIT];
#endif
const uint PARTIALS = TURNS > 1 || SWIGLU ? 2 : 1;
shared float partial[PARTIALS * PARTS * TILES * TOKENS * 32];
shared float gates[SWIGLU ? TURNS * TILES * TOKENS * 32 : 1];
shared float squares[TOKENS * gl_WorkGroupSize.x / 32];

uint group, quarter, part_of_columns, copy_at, steps, blocks, token0;
uint64_t lane_words, lane_scales;
#define SINGLE(x) packFloat2x16(f16vec2(float16_t(x)))
#include "ops/packed_matvec.glsl"

// To shared memory, as fp16 with a power of two for each unit. A unit's 16 vectors of four columns are in neighbouring lanes.
void store_slab(vec4 loaded[LOADED], const vec4 weight[QUADS], inout float square[TOKENS]) {
    UNROLL for (uint k = 0; k < QUADS; k++) {
        const uint i = gl_LocalInvocationIndex + k * gl_WorkGroupSize.x;
        if (i < SLAB / 4) {
            UNROLL for (uint t = 0; t < TOKENS; t++) {
                vec4 x = loaded[k * TOKENS + t];
                if (NORM != 0) {
                    square[t] += dot(x, x);
                    x *= weight[k];
                }
                float top = max(max(abs(x.x), abs(x.y)), max(abs(x.z), abs(x.w)));
                UNROLL for (uint m = 1; m < 16; m *= 2) top = max(top, subgroupShuffleXor(top, m));
                const uint power = clamp(floatBitsToUint(top) & 0x7f800000u, 0x00800000u, 0x7e800000u);
                x *= uintBitsToFloat(0x7f000000u - power);
#if BITS == 1
                float sum = x.x + x.y + x.z + x.w;
                UNROLL for (uint m = 1; m < 16; m *= 2) sum += subgroupShuffleXor(sum, m);
                if (i % 16 == 0) x_sum[t * (SLAB / UNIT) + i / 16] = sum;
                // Columns c and c + 16 of 32 are a pair, times what their bit is worth (run_pairs()).
                x *= vec4(16384, 8192, 2048, 128);
                vec4 other;
                UNROLL for (uint e = 0; e < 4; e++) other[e] = subgroupShuffleXor(x[e], 4u);
                const bool upper = i % 8 >= 4;
                const vec2 low = upper ? other.zw : x.xy, high = upper ? x.zw : other.xy;
                const uvec2 halves = uvec2(packFloat2x16(f16vec2(low.x, high.x)), packFloat2x16(f16vec2(low.y, high.y)));
                const uint at = t * X_STRIDE + i / 8 * 4 + i % 4;
                if (upper)
                    xs[at].zw = halves;
                else
                    xs[at].xy = halves;
#else
                const uvec2 halves = uvec2(packFloat2x16(f16vec2(x.xy)), packFloat2x16(f16vec2(x.zw)));
                const uint at = t * X_STRIDE + i / 2;
                if (i % 2 == 0)
                    xs[at].xy = halves;
                else
                    xs[at].zw = halves;
#endif
                if (i % 16 == 0) x_scale[t * (SLAB / UNIT) + i / 16] = uintBitsToFloat(power);
            }
        }
    }
}

// Words of a row's unit that a lane needs, and its eight pairs of weights from them, in the order of xs.
const uint WORDS = BITS == 8 ? 4 : BITS == 4 ? 2 : BITS == 3 ? 3 : 1;
// Where a lane's words of unit 0 lie behind the row's.
uint first_word() {
    return BITS == 8 ? quarter * 512 : BITS == 4 ? quarter / 2 * 512 + quarter % 2 * 8 : BITS == 2 ? quarter * 4 : BITS == 1 ? quarter / 2 * 4 : 0;
}
void load_words(uint64_t at, uint row, uint unit, out uint w[WORDS]) {
#if BITS == 8
    const uvec4 q = U32x4(at).v[row + unit * 128];
    UNROLL for (uint i = 0; i < 4; i++) w[i] = q[i];
#elif BITS == 4
    const uvec2 q = U32x2(at).v[row * 2 + unit * 128];
    w[0] = q.x;
    w[1] = q.y;
#elif BITS == 3
    UNROLL for (uint i = 0; i < 3; i++) {
        const uint even = unit * 6 + i, odd = even + 3;
        w[i] = U32(at).v[row * 4 + (quarter >= 2 ? odd / 4 * 128 + odd % 4 : even / 4 * 128 + even % 4)];
    }
#elif BITS == 2
    w[0] = U32(at).v[row * 4 + unit * 128];
#else
    w[0] = U32(at).v[row * 4 + unit * 2];
#endif
}

void run_pairs(const uint w[WORDS], out uint pairs[8]) {
#if BITS == 1
    // Bits p and p + 16 of the word become bits 10 to 13 of two halves: 2^-14, 2^-13, 2^-11 or 2^-7 where they are set.
    const uint v = w[0] >> (quarter % 2 * 8);
    UNROLL for (uint p = 0; p < 8; p++) pairs[p] = (p < 4 ? v << 10 : v << 6) & (0x04000400u << (p % 4));
#elif BITS == 2
    UNROLL for (uint b = 0; b < 4; b++) {
        const uvec2 e = entry(w[0], 8 * b);
        pairs[2 * b] = e.x;
        pairs[2 * b + 1] = e.y;
    }
#elif BITS == 3
    const bool second = quarter % 2 == 1;
    const uint low = second ? (w[1] >> 18 & 0xfffu) | w[2] << 12 : w[0];
    const uint high = second ? (w[2] >> 12 & 0x3ffffu) | last_pair(w[0], w[1], w[2]) << 18 : (w[0] >> 24 & 63u) | w[1] << 6;
    UNROLL for (uint p = 0; p < 4; p++) pairs[p] = entry(low, 6 * p);
    UNROLL for (uint p = 0; p < 4; p++) pairs[4 + p] = entry(high, 6 * p);
#elif BITS == 4
    UNROLL for (uint p = 0; p < 8; p++) pairs[p] = entry(w[p / 4], 8 * (p % 4));
#else
    UNROLL for (uint p = 0; p < 8; p++)
        pairs[p] = (entry(w[p / 2], 16 * (p % 2)) & 0xffffu) | (entry(w[p / 2], 16 * (p % 2) + 8) & 0xffff0000u);
#endif
}

struct TileStep {
    uint words[4][2][WORDS];  // of the lane's rows, of both units
    uint16_t scales[4][2];
};
void load_step(uint tile, uint step, out TileStep w) {
    const uint64_t at = lane_words + uint64_t(tile * steps + step) * (BITS * 512);
    UNROLL for (uint u = 0; u < 2; u++) {
        const uint block = (step * 2 + u) / BLOCK_UNITS;
        U16 scale = U16(lane_scales + uint64_t(tile * blocks + (WHOLE_STEPS ? block : min(block, blocks - 1))) * 64);
        UNROLL for (uint r = 0; r < 4; r++) {
            load_words(at, r * 8, u, w.words[r][u]);
            w.scales[r][u] = scale.v[r * 8];
        }
    }
}

#define WEIGHTS coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define INPUTS coopmat<float16_t, gl_ScopeSubgroup, 16, 8, gl_MatrixUseB>
#define SUMS coopmat<float, gl_ScopeSubgroup, 16, 8, gl_MatrixUseAccumulator>

void main() {
    const uint id = gl_LocalInvocationIndex, lane = gl_SubgroupInvocationID;
    group = lane / 4;
    quarter = lane % 4;
    part_of_columns = id / 32;
    steps = steps_of(a.in_cols);
    blocks = a.in_cols / (BLOCK_UNITS * UNIT);
    token0 = gl_WorkGroupID.z * TOKENS;
#if BITS != 1
    copy_at = COPIES == 32 ? gl_SubgroupInvocationID << ENTRY_LOG : id % COPIES << ENTRY_LOG;
#endif
    lane_words = a.indices + group * 16 + first_word();
    lane_scales = a.scales + group * 2;
    const uint slabs = (steps + SLAB_STEPS - 1) / SLAB_STEPS, rounds = slabs * STEPS_EACH, passes = SWIGLU ? 2 : 1;
    const uint first_tile = workgroup_index() * (TILES * TURNS), end_tile = SWIGLU ? a.tiles_1 : a.tiles;
    if (first_tile >= end_tile) return;
    const uint turns = min(TURNS, (end_tile - first_tile) / TILES);
    float square[TOKENS], inv_rms = 1;
    UNROLL for (uint t = 0; t < TOKENS; t++) square[t] = 0;
    TileStep w[DEPTH * TILES];
    vec4 x[LOADED], norm[QUADS];
    UNROLL for (uint d = 0; d < DEPTH; d++)
        if (d * PARTS + part_of_columns < steps)
            UNROLL for (uint i = 0; i < TILES; i++) load_step(first_tile + i, d * PARTS + part_of_columns, w[d * TILES + i]);
    load_slab(0, x, norm);

    uint done = 0;  // tiles, of both passes
    for (uint pass = 0; pass < passes; pass++) {
        const uint pass_tile = first_tile + pass * a.tiles_1;
        const TilePlace place = TILE_PLACE(a, pass_tile);
        const uint64_t centroids = a.centroids + place.part * ((INDEX_MASK + 1) * 4);
#if BITS == 1
        const float bit_clear = F32(centroids).v[0], bit_set = F32(centroids).v[1] - bit_clear;
#else
        build_table(centroids);
#endif
        for (uint turn = 0; turn < turns; turn++, done++) {
            const uint tile = pass_tile + turn * TILES;
            float total[TILES][4][COLUMNS];
            UNROLL for (uint i = 0; i < TILES; i++)
                UNROLL for (uint r = 0; r < 4; r++)
                    UNROLL for (uint c = 0; c < COLUMNS; c++) total[i][r][c] = 0;
            for (uint slab = 0; slab < slabs; slab++) {
                const bool fresh = slabs > 1 || done == 0;  // columns to bring to shared memory
                if (slabs > 1 && (done != 0 || slab != 0)) barrier();
                if (fresh) {
                    float counted[TOKENS];
                    UNROLL for (uint t = 0; t < TOKENS; t++) counted[t] = 0;
                    store_slab(x, norm, counted);
                    if (done == 0) UNROLL for (uint t = 0; t < TOKENS; t++) square[t] += counted[t];
                }
                if (fresh || turn == 0) barrier();
                if (slabs > 1) load_slab(slab + 1 < slabs ? (slab + 1) * SLAB : 0, x, norm);
                for (uint n = 0; n < STEPS_EACH; n += DEPTH) {
                    UNROLL for (uint d = 0; d < DEPTH; d++) {
                        const uint in_slab = (n + d) * PARTS + part_of_columns;
                        if (slab * SLAB_STEPS + in_slab < steps) {
                            UNROLL for (uint u = 0; u < 2; u++) {
                                const uint unit = in_slab * 2 + u;
                                uvec4 columns[2];
                                const uint token = TOKENS > 1 ? min(group, TOKENS - 1) : 0;
                                UNROLL for (uint e = 0; e < 2; e++) columns[e] = xs[token * X_STRIDE + unit * 8 + quarter * 2 + e];
                                UNROLL for (uint i = 0; i < TILES; i++) {
                                    uint pairs[4][8];
                                    UNROLL for (uint r = 0; r < 4; r++) run_pairs(w[d * TILES + i].words[r][u], pairs[r]);
                                    SUMS sums[2];
                                    UNROLL for (uint h = 0; h < 2; h++) sums[h] = SUMS(0.0);
                                    UNROLL for (uint k = 0; k < 4; k++) {
                                        INPUTS input_columns;
                                        UNROLL for (uint e = 0; e < 2; e++) {
                                            const f16vec2 pair = unpackFloat2x16(columns[k / 2][k % 2 * 2 + e]);
                                            input_columns[2 * e] = pair.x;
                                            input_columns[2 * e + 1] = pair.y;
                                        }
                                        UNROLL for (uint h = 0; h < 2; h++) {
                                            WEIGHTS weights;
                                            UNROLL for (uint e = 0; e < 4; e++) {  // two pairs of a row, then of the other
                                                const f16vec2 pair = unpackFloat2x16(pairs[2 * h + e / 2][2 * k + e % 2]);
                                                weights[2 * e] = pair.x;
                                                weights[2 * e + 1] = pair.y;
                                            }
                                            sums[h] = coopMatMulAdd(weights, input_columns, sums[h]);
                                        }
                                    }
                                    UNROLL for (uint c = 0; c < COLUMNS; c++) {
                                        const uint t = TOKENS > 1 ? min(quarter * 2 + c, TOKENS - 1) : 0;
                                        const float power = x_scale[t * (SLAB / UNIT) + unit];
#if BITS == 1
                                        const float clear = bit_clear * x_sum[t * (SLAB / UNIT) + unit];
#endif
                                        UNROLL for (uint r = 0; r < 4; r++) {
                                            float sum = sums[r / 2][r % 2 * 2 + c];
#if BITS == 1
                                            sum = sum * bit_set + clear;
#endif
                                            total[i][r][c] += sum * (power * bf16_to_float(w[d * TILES + i].scales[r][u]));
                                        }
                                    }
                                }
                            }
                        }
                        // The step that takes this one's place: of this tile, of the next one, or of the next pass.
                        uint next = slab * STEPS_EACH + n + d + DEPTH, next_tile = tile;
                        if (next >= rounds) {
                            next -= rounds;
                            next_tile = turn + 1 < turns ? tile + TILES : first_tile + a.tiles_1;
                            if (turn + 1 == turns && pass + 1 == passes) next = steps;
                        }
                        if (next * PARTS + part_of_columns < steps)
                            UNROLL for (uint i = 0; i < TILES; i++)
                                load_step(next_tile + i, next * PARTS + part_of_columns, w[d * TILES + i]);
                    }
                }
            }
            const uint buffer_of_sums = done % PARTIALS * (PARTS * TILES * TOKENS * 32);
            UNROLL for (uint c = 0; c < COLUMNS; c++) {
                const uint t = TOKENS > 1 ? quarter * 2 + c : quarter;
                if (t < TOKENS)
                    UNROLL for (uint i = 0; i < TILES; i++)
                        UNROLL for (uint r = 0; r < 4; r++)
                            partial[buffer_of_sums + ((part_of_columns * TILES + i) * TOKENS + t) * 32 + group + 8 * r] = total[i][r][c];
            }
            if (NORM != 0 && done == 0) UNROLL for (uint t = 0; t < TOKENS; t++) {
                const float sum = subgroupAdd(square[t]);
                if (subgroupElect()) squares[t * PARTS + part_of_columns] = sum;
            }
            barrier();
            // Invocation: (tile, token, row); PARTS is at least TILES * TOKENS, so that each has one at most.
            if (id < TILES * TOKENS * 32) {
                const uint i = id / 32, t = i % TOKENS;
                float sum = 0;
                for (uint p = 0; p < PARTS; p++) sum += partial[buffer_of_sums + (p * TILES * TOKENS + i) * 32 + lane];
                if (NORM != 0 && done == 0) {
                    float all = 0;
                    for (uint s = 0; s < PARTS; s++) all += squares[t * PARTS + s];
                    inv_rms = 1 / sqrt(all / float(a.in_cols) + a.eps);
                }
                sum *= inv_rms;
                const uint gate = SWIGLU ? turn * (TILES * TOKENS * 32) + id : 0;
                if (SWIGLU && pass == 0) {
                    gates[gate] = sum;
                } else {
                    const uint tile_row = (turn * TILES + i / TOKENS) * 32 + lane;
                    if (tile_row < place.rows && token0 + t < a.tokens) {
                        const uint column = (SWIGLU ? place.row - a.rows_0 : place.row) + tile_row;
                        const uint64_t at = (uint64_t(token0 + t) * a.y_cols + a.y_first) * 4;
                        if (SWIGLU) sum *= silu(gates[gate]);
                        if (a.residual != 0) sum += F32(a.residual + at).v[column];
                        F32(a.y + at).v[column] = sum;
                    }
                }
            }
        }
    }
}

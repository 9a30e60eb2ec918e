#version 460
//! variant packed_matvec_1 BITS=1
//! variant packed_matvec_2 BITS=2
//! variant packed_matvec_3 BITS=3
//! variant packed_matvec_4 BITS=4
//! variant packed_matvec_8 BITS=8
// y = x W^T for few tokens, W packed in tiles (runtime/ops/packed_linear.h). A workgroup makes TILES tiles of 32 rows; a lane has
// one row of each, and the workgroup's parts of 32 lanes share the columns, step by step of 128.
// A byte of indices (6 bits at 3 bits) gives its fp16 weights at once through a table in shared memory, which has a copy for each
// lane that reads at the same time, so that no two meet in a bank. Activations are fp16 with a power of two for every run of
// 32 columns. Sums of a run are fp16 (8 bits: fp32), of runs fp32.
// The next tile's weights are on their way while one is computed. Grid: (tiles / (TILES * TURNS), 1, groups of TOKENS).
#include "common.glsl"
#include "args/packed_linear.h"
layout(push_constant, scalar) uniform Push { PackedLinearArgs a; };
layout(constant_id = 1) const uint TOKENS = 1;      // at most 8
layout(constant_id = 2) const uint TILES = 1;       // tiles of a workgroup, all of one part
layout(constant_id = 3) const uint DEPTH = 2;       // steps of weights on their way
layout(constant_id = 4) const uint SLAB = 4096;     // columns of x in shared memory: a multiple of 4 * width * DEPTH
layout(constant_id = 5) const uint COPIES_LOG = 5;  // copies of the table
layout(constant_id = 6) const uint BLOCK_RUNS = 2;  // block_size / 32
layout(constant_id = 7) const uint NORM = 0;
layout(constant_id = 8) const bool VECTOR = true;
layout(constant_id = 9) const bool SWIGLU = false;
layout(constant_id = 10) const uint TURNS = 1;  // a workgroup takes so many times TILES tiles, one after another, in one part
#define UNROLL [[unroll]]
#include "ops/packed.glsl"
#include "ops/linear_input.glsl"

#if BITS == 1
#define ENTRY uvec4
#elif BITS == 2
#define ENTRY uvec2
#else
#define ENTRY uint
#endif
const uint PARTS = gl_WorkGroupSize.x / 32;
const uint SLAB_STEPS = SLAB / STEP_COLUMNS, STEPS_EACH = SLAB_STEPS / PARTS;

shared uvec4 xs[TOKENS * SLAB / 8];        // fp16
shared float x_scale[TOKENS * SLAB / 32];  // power of two of a run
const uint PARTIALS = TURNS > 1 || SWIGLU ? 2 : 1;
shared float partial[PARTIALS * PARTS * TILES * TOKENS * 32];
shared float gates[SWIGLU ? TURNS * TILES * TOKENS * 32 : 1];
shared float squares[TOKENS * gl_WorkGroupSize.x / 8];

uint row, part_of_columns, copy_at, steps, blocks, token0;
#define SINGLE(x) floatBitsToUint(x)
#include "ops/packed_matvec.glsl"

// To shared memory, as fp16 with a power of two for each run.
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
                UNROLL for (uint m = 1; m < 8; m *= 2) top = max(top, subgroupShuffleXor(top, m));
                const uint power = clamp(floatBitsToUint(top) & 0x7f800000u, 0x00800000u, 0x7e800000u);
                x *= uintBitsToFloat(0x7f000000u - power);
                const uvec2 halves = uvec2(packFloat2x16(f16vec2(x.xy)), packFloat2x16(f16vec2(x.zw)));
                const uint at = t * (SLAB / 8) + i / 2;
                if (i % 2 == 0)
                    xs[at].xy = halves;
                else
                    xs[at].zw = halves;
                if (i % 8 == 0) x_scale[t * (SLAB / 32) + i / 8] = uintBitsToFloat(power);
            }
        }
    }
}

#if BITS == 8
#define PAIR vec2
#define TO_PAIR(halves) vec2(unpackFloat2x16(halves))
#else
#define PAIR f16vec2
#define TO_PAIR(halves) unpackFloat2x16(halves)
#endif

// Pair number q (0 .. 15) of a run from its words, in the order of columns.
#define WORD(i) w[(i) / 4][(i) % 4]
void run_pairs(const uvec4 w[BITS], const uint run, const uint eighth, out PAIR pairs[4]) {
    const uint first = run * BITS;  // word
#if BITS == 1
    const uvec4 e = entry(WORD(first), 8 * eighth);
    UNROLL for (uint j = 0; j < 4; j++) pairs[j] = unpackFloat2x16(e[j]);
#elif BITS == 2
    UNROLL for (uint j = 0; j < 2; j++) {
        const uvec2 e = entry(WORD(first + eighth / 2), 16 * (eighth % 2) + 8 * j);
        pairs[2 * j] = unpackFloat2x16(e.x);
        pairs[2 * j + 1] = unpackFloat2x16(e.y);
    }
#elif BITS == 3
    UNROLL for (uint j = 0; j < 4; j++) {
        const uint p = 4 * eighth + j;
        if (p < 15)
            pairs[j] = unpackFloat2x16(entry(WORD(first + min(p / 5, 2)), 6 * (p % 5)));
        else
            pairs[j] = unpackFloat2x16(entry(last_pair(WORD(first), WORD(first + 1), WORD(first + 2)), 0));
    }
#elif BITS == 4
    UNROLL for (uint j = 0; j < 4; j++) pairs[j] = unpackFloat2x16(entry(WORD(first + eighth), 8 * j));
#else
    UNROLL for (uint j = 0; j < 4; j++) {
        const uint word = WORD(first + eighth * 2 + j / 2);
        pairs[j] = vec2(uintBitsToFloat(entry(word, 16 * (j % 2))), uintBitsToFloat(entry(word, 16 * (j % 2) + 8)));
    }
#endif
}

void load_step(uint tile, uint step, out uvec4 w[BITS], out float scales[4]) {
    U32x4 from = U32x4(chunk_address(a.indices, tile, step, steps, row));
    UNROLL for (uint j = 0; j < BITS; j++) w[j] = from.v[j * 32];
    U16 scale = U16(a.scales + (uint64_t(tile) * blocks * 32 + row) * 2);
    UNROLL for (uint r = 0; r < 4; r++) {
        const bool again = r != 0 && (BLOCK_RUNS % 4 == 0 || BLOCK_RUNS == 2 && r % 2 == 1);
        scales[r] = again ? scales[max(r, 1) - 1] : bf16_to_float(scale.v[min((step * 4 + r) / BLOCK_RUNS, blocks - 1) * 32]);
    }
}

void main() {
    const uint id = gl_LocalInvocationIndex;
    row = id % 32;
    part_of_columns = id / 32;
    copy_at = COPIES == 32 && gl_SubgroupSize == 32 ? gl_SubgroupInvocationID << ENTRY_LOG : id % COPIES << ENTRY_LOG;
    steps = steps_of(a.in_cols);
    blocks = a.in_cols / (BLOCK_RUNS * 32);
    token0 = gl_WorkGroupID.z * TOKENS;
    const uint slabs = (steps + SLAB_STEPS - 1) / SLAB_STEPS, rounds = slabs * STEPS_EACH, passes = SWIGLU ? 2 : 1;
    const uint first_tile = workgroup_index() * (TILES * TURNS), end_tile = SWIGLU ? a.tiles_1 : a.tiles;
    if (first_tile >= end_tile) return;
    const uint turns = min(TURNS, (end_tile - first_tile) / TILES);
    float square[TOKENS], inv_rms = 1;
    UNROLL for (uint t = 0; t < TOKENS; t++) square[t] = 0;
    uvec4 w[DEPTH * TILES][BITS];
    float scales[DEPTH * TILES][4];
    vec4 x[LOADED], norm[QUADS];
    UNROLL for (uint d = 0; d < DEPTH; d++)
        if (d * PARTS + part_of_columns < steps)
            UNROLL for (uint i = 0; i < TILES; i++)
                load_step(first_tile + i, d * PARTS + part_of_columns, w[d * TILES + i], scales[d * TILES + i]);
    load_slab(0, x, norm);

    uint done = 0;  // tiles, of both passes
    for (uint pass = 0; pass < passes; pass++) {
        const uint pass_tile = first_tile + pass * a.tiles_1;
        const TilePlace place = TILE_PLACE(a, pass_tile);
        build_table(a.centroids + place.part * ((INDEX_MASK + 1) * 4));
        for (uint turn = 0; turn < turns; turn++, done++) {
            const uint tile = pass_tile + turn * TILES;
            float total[TILES * TOKENS];
            UNROLL for (uint i = 0; i < TILES * TOKENS; i++) total[i] = 0;
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
                            UNROLL for (uint r = 0; r < 4; r++) {
                                PAIR sum[TILES * TOKENS];
                                UNROLL for (uint i = 0; i < TILES * TOKENS; i++) sum[i] = PAIR(0);
                                UNROLL for (uint e = 0; e < 4; e++) {
                                    PAIR weight[TILES][4];
                                    UNROLL for (uint i = 0; i < TILES; i++) run_pairs(w[d * TILES + i], r, e, weight[i]);
                                    UNROLL for (uint t = 0; t < TOKENS; t++) {
                                        const uvec4 halves = xs[t * (SLAB / 8) + in_slab * 16 + r * 4 + e];
                                        UNROLL for (uint i = 0; i < TILES; i++)
                                            UNROLL for (uint j = 0; j < 4; j++)
                                                sum[i * TOKENS + t] = fma(weight[i][j], TO_PAIR(halves[j]), sum[i * TOKENS + t]);
                                    }
                                }
                                UNROLL for (uint t = 0; t < TOKENS; t++) {
                                    const float power = x_scale[t * (SLAB / 32) + in_slab * 4 + r];
                                    UNROLL for (uint i = 0; i < TILES; i++) {
                                        const PAIR s = sum[i * TOKENS + t];
                                        total[i * TOKENS + t] += (float(s.x) + float(s.y)) * (power * scales[d * TILES + i][r]);
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
                                load_step(next_tile + i, next * PARTS + part_of_columns, w[d * TILES + i], scales[d * TILES + i]);
                    }
                }
            }
            const uint buffer_of_sums = done % PARTIALS * (PARTS * TILES * TOKENS * 32);
            UNROLL for (uint i = 0; i < TILES * TOKENS; i++)
                partial[buffer_of_sums + (part_of_columns * TILES * TOKENS + i) * 32 + row] = total[i];
            if (NORM != 0 && done == 0) UNROLL for (uint t = 0; t < TOKENS; t++) {
                const float sum = subgroupAdd(square[t]);
                if (subgroupElect()) squares[t * gl_NumSubgroups + gl_SubgroupID] = sum;
            }
            barrier();
            // Invocation: (tile, token, row); PARTS is at least TILES * TOKENS, so that each has one at most.
            if (id < TILES * TOKENS * 32) {
                const uint i = id / 32, t = i % TOKENS;
                float sum = 0;
                for (uint p = 0; p < PARTS; p++) sum += partial[buffer_of_sums + (p * TILES * TOKENS + i) * 32 + row];
                if (NORM != 0 && done == 0) {
                    float all = 0;
                    for (uint s = 0; s < gl_NumSubgroups; s++) all += squares[t * gl_NumSubgroups + s];
                    inv_rms = 1 / sqrt(all / float(a.in_cols) + a.eps);
                }
                sum *= inv_rms;
                const uint gate = SWIGLU ? turn * (TILES * TOKENS * 32) + id : 0;
                if (SWIGLU && pass == 0) {
                    gates[gate] = sum;
                } else {
                    const uint tile_row = (turn * TILES + i / TOKENS) * 32 + row;
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

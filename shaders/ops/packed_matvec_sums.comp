#version 460
//! variant packed_matvec_sums
// y = x W^T for one token, W packed at 1 bit, fp32 throughout. Four columns of x have 16 sums; they are made once and a lane, which
// has a row, looks up the one that its four bits name: sum(w x) = scale (c0 sum(x) + (c1 - c0) sum of x where the bit is set).
// 16 neighbouring words lie in 16 banks, so lanes never meet. Workgroup and tiles as in packed_matvec.comp; a slab is one step for
// each of the workgroup's parts. Grid: tiles / TILES.
#include "common.glsl"
#include "args/packed_linear.h"
layout(push_constant, scalar) uniform Push { PackedLinearArgs a; };
#define BITS 1
layout(constant_id = 1) const uint TILES = 1;
layout(constant_id = 2) const uint DEPTH = 2;  // slabs of weights on their way
layout(constant_id = 3) const uint BLOCK_RUNS = 2;
layout(constant_id = 4) const uint NORM = 0;
layout(constant_id = 5) const bool VECTOR = true;
layout(constant_id = 6) const bool SWIGLU = false;
layout(constant_id = 7) const bool RUN_IN_SUBGROUP = true;  // subgroups of at least 32
layout(constant_id = 8) const uint BUFFERS = 1;  // slabs in shared memory: with two there is one barrier for each
#define UNROLL [[unroll]]
#include "ops/packed.glsl"
#include "ops/linear_input.glsl"

const uint PARTS = gl_WorkGroupSize.x / 32;
const uint SLAB = PARTS * STEP_COLUMNS;
const uint PAIRS = SWIGLU ? TILES / 2 : TILES;  // with SWIGLU the first half of the tiles are gates, the second half their ups

shared float sums[BUFFERS * SLAB * 4];  // [groups of four columns][16]
shared float run_sum[RUN_IN_SUBGROUP ? BUFFERS * SLAB / 32 : 1];
shared float group_sum[RUN_IN_SUBGROUP ? 1 : BUFFERS * SLAB / 4];
shared float partial[PARTS * TILES * 32];
shared float squares[gl_WorkGroupSize.x / 8];

uint row, part_of_columns, steps, blocks;

// Columns of x on their way. Item: a group of columns and four of its sums, whose bits 2 and 3 are those of the item's number;
// 32 neighbouring items have the columns of a run.
const uint ITEMS = SLAB / gl_WorkGroupSize.x;
void load_slab(uint first, out vec4 x[ITEMS], out vec4 weight[ITEMS]) {
    UNROLL for (uint k = 0; k < ITEMS; k++) {
        const uint column = first + (gl_LocalInvocationIndex + k * gl_WorkGroupSize.x) / 4 * 4;
        x[k] = load_columns(a.x, column, a.in_cols);
        weight[k] = load_norm(a.norm, column, a.in_cols);
    }
}

void store_slab(uint to, const vec4 loaded[ITEMS], const vec4 weight[ITEMS], inout float square) {
    const uint high = gl_LocalInvocationIndex % 4;
    UNROLL for (uint k = 0; k < ITEMS; k++) {
        const uint i = gl_LocalInvocationIndex + k * gl_WorkGroupSize.x;
        vec4 x = loaded[k];
        if (NORM != 0) {
            if (high == 0) square += dot(x, x);
            x *= weight[k];
        }
        const float base = ((high & 1u) != 0 ? x.z : 0) + ((high & 2u) != 0 ? x.w : 0);
        UNROLL for (uint j = 0; j < 4; j++) {  // turned, so that lanes keep out of each other's banks
            const uint low = (j + i / 8) % 4;
            sums[to * SLAB * 4 + 4 * i + low] = base + ((low & 1u) != 0 ? x.x : 0) + ((low & 2u) != 0 ? x.y : 0);
        }
        const float all = high == 0 ? dot(x, vec4(1)) : 0;
        if (RUN_IN_SUBGROUP) {
            float run = all;
            UNROLL for (uint m = 1; m < 32; m *= 2) run += subgroupShuffleXor(run, m);
            if (i % 32 == 0) run_sum[to * (SLAB / 32) + i / 32] = run;
        } else {
            if (high == 0) group_sum[to * (SLAB / 4) + i / 4] = all;
        }
    }
}

float sum_of_run(uint run) {
    if (RUN_IN_SUBGROUP) return run_sum[run];
    float sum = 0;
    UNROLL for (uint j = 0; j < 8; j++) sum += group_sum[run * 8 + j];
    return sum;
}

void load_step(uint tile, uint step, out uvec4 w, out float scales[4]) {
    w = U32x4(chunk_address(a.indices, tile, step, steps, row)).v[0];
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
    steps = steps_of(a.in_cols);
    blocks = a.in_cols / (BLOCK_RUNS * 32);
    const uint slabs = (steps + PARTS - 1) / PARTS;
    if (workgroup_index() * PAIRS >= (SWIGLU ? a.tiles_1 : a.tiles)) return;
    uint tile[TILES];
    float low[TILES], gap[TILES], total[TILES];
    uvec4 w[DEPTH * TILES];
    float scales[DEPTH * TILES][4], square = 0;
    UNROLL for (uint i = 0; i < TILES; i++) tile[i] = SWIGLU ? workgroup_index() * PAIRS + i % PAIRS + i / PAIRS * a.tiles_1 : workgroup_index() * TILES + i;
    UNROLL for (uint d = 0; d < DEPTH; d++)
        if (d * PARTS + part_of_columns < steps)
            UNROLL for (uint i = 0; i < TILES; i++)
                load_step(tile[i], d * PARTS + part_of_columns, w[d * TILES + i], scales[d * TILES + i]);
    vec4 x[ITEMS], norm[ITEMS];
    load_slab(0, x, norm);
    UNROLL for (uint i = 0; i < TILES; i++) {
        const TilePlace place = TILE_PLACE(a, tile[i]);
        F32 centroids = F32(a.centroids + place.part * 8);
        low[i] = centroids.v[0];
        gap[i] = centroids.v[1] - low[i];
        total[i] = 0;
    }
    for (uint slab0 = 0; slab0 < slabs; slab0 += DEPTH) {
        UNROLL for (uint d = 0; d < DEPTH; d++) {
            const uint slab = slab0 + d;
            if (slab < slabs) {
                const uint at = slab % BUFFERS;
                if (BUFFERS == 1 && slab != 0) barrier();
                store_slab(at, x, norm, square);
                barrier();
                if (slab + 1 < slabs) load_slab((slab + 1) * SLAB, x, norm);
                const uint step = slab * PARTS + part_of_columns;
                if (step < steps) {
                    UNROLL for (uint r = 0; r < 4; r++) {
                        const float all = sum_of_run(at * (SLAB / 32) + part_of_columns * 4 + r);
                        UNROLL for (uint i = 0; i < TILES; i++) {
                            const uint word = w[d * TILES + i][r];
                            const uint group = at * SLAB * 4 + (part_of_columns * 32 + r * 8) * 16;
                            float sum[2] = {0, 0};
                            UNROLL for (uint n = 0; n < 4; n++) {
                                sum[0] += sums[group + n * 32 + (word >> (8 * n) & 15u)];
                                sum[1] += sums[group + n * 32 + 16 + (word >> (8 * n + 4) & 15u)];
                            }
                            total[i] += scales[d * TILES + i][r] * (low[i] * all + gap[i] * (sum[0] + sum[1]));
                        }
                    }
                    if (step + DEPTH * PARTS < steps)
                        UNROLL for (uint i = 0; i < TILES; i++)
                            load_step(tile[i], step + DEPTH * PARTS, w[d * TILES + i], scales[d * TILES + i]);
                }
            }
        }
    }
    UNROLL for (uint i = 0; i < TILES; i++) partial[(part_of_columns * TILES + i) * 32 + row] = total[i];
    if (NORM != 0) {
        const float sum = subgroupAdd(square);
        if (subgroupElect()) squares[gl_SubgroupID] = sum;
    }
    barrier();
    if (id >= PAIRS * 32) return;
    const uint i = id / 32;
    float inv_rms = 1;
    if (NORM != 0) {
        float all = 0;
        for (uint s = 0; s < gl_NumSubgroups; s++) all += squares[s];
        inv_rms = 1 / sqrt(all / float(a.in_cols) + a.eps);
    }
    float sum = 0, up = 0;
    for (uint p = 0; p < PARTS; p++) {
        sum += partial[(p * TILES + i) * 32 + row];
        if (SWIGLU) up += partial[(p * TILES + PAIRS + i) * 32 + row];
    }
    sum *= inv_rms;
    if (SWIGLU) sum = silu(sum) * (up * inv_rms);
    const uint own_tile = workgroup_index() * PAIRS + i;
    const TilePlace place = TILE_PLACE(a, own_tile);
    if (row >= place.rows) return;
    const uint64_t at = a.y_first * 4 + uint64_t(place.row + row) * 4;
    if (a.residual != 0) sum += F32(a.residual + at).v[0];
    F32(a.y + at).v[0] = sum;
}

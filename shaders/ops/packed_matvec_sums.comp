#version 460
//! variant packed_matvec_sums
// y = x W^T for one token, W packed at 1 bit, fp32 throughout. Four columns of x have 16 sums; they are made once and a lane, which
// has a row, looks up the one that its four bits name: sum(w x) = scale (c0 sum(x) + (c1 - c0) sum of x where the bit is set).
// 16 neighbouring words lie in 16 banks, so lanes never meet. Workgroup and tiles as in packed_matvec.comp; a slab is one step for
// each of the workgroup's parts. Grid: tiles / TILES (SWIGLU: pairs of a gate tile and an up tile, TILES = 2).
#include "common.glsl"
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#include "args/packed_linear.h"
layout(push_constant, scalar) uniform Push { PackedLinearArgs a; };
#define BITS 1
layout(constant_id = 1) const uint TILES = 1;
layout(constant_id = 2) const uint DEPTH = 2;  // slabs of weights on their way
layout(constant_id = 3) const uint BLOCK_RUNS = 2;
layout(constant_id = 4) const uint NORM = 0;
layout(constant_id = 5) const bool VECTOR = true;
layout(constant_id = 6) const bool SWIGLU = false;
#define UNROLL [[unroll]]
#include "ops/packed.glsl"
#include "ops/linear_input.glsl"

const uint PARTS = gl_WorkGroupSize.x / 32;
const uint SLAB = PARTS * STEP_COLUMNS;

shared float sums[SLAB * 4];  // [groups of four columns][16]
shared float run_sum[SLAB / 32];
shared float partial[PARTS * TILES * 32];
shared float squares[gl_WorkGroupSize.x / 8];

uint row, part_of_columns, steps, blocks;

vec4 column_values(uint column, out float square) {
    const vec4 x = load_columns(a.x, column, a.in_cols);
    square = dot(x, x);
    return x * load_norm(a.norm, column, a.in_cols);
}

void stage(uint first, inout float square) {
    // Invocation: a group of columns and four of its sums, whose bits 2 and 3 are those of `high`.
    for (uint i = gl_LocalInvocationIndex; i < SLAB; i += gl_WorkGroupSize.x) {
        const uint high = i % 4;
        float own;
        const vec4 x = column_values(first + i / 4 * 4, own);
        if (high == 0) square += own;
        const float base = ((high & 1u) != 0 ? x.z : 0) + ((high & 2u) != 0 ? x.w : 0);
        sums[4 * i] = base;
        sums[4 * i + 1] = base + x.x;
        sums[4 * i + 2] = base + x.y;
        sums[4 * i + 3] = base + (x.x + x.y);
    }
    for (uint i = gl_LocalInvocationIndex; i < SLAB / 32; i += gl_WorkGroupSize.x) {
        float sum = 0, unused;
        UNROLL for (uint j = 0; j < 8; j++) sum += dot(column_values(first + i * 32 + j * 4, unused), vec4(1));
        run_sum[i] = sum;
    }
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
    if (workgroup_index() * (SWIGLU ? 1 : TILES) >= (SWIGLU ? a.tiles_1 : a.tiles)) return;
    uint tile[TILES];
    float low[TILES], gap[TILES], total[TILES];
    uvec4 w[DEPTH * TILES];
    float scales[DEPTH * TILES][4], square = 0;
    UNROLL for (uint i = 0; i < TILES; i++) tile[i] = SWIGLU ? workgroup_index() + i * a.tiles_1 : workgroup_index() * TILES + i;
    UNROLL for (uint d = 0; d < DEPTH; d++)
        if (d * PARTS + part_of_columns < steps)
            UNROLL for (uint i = 0; i < TILES; i++)
                load_step(tile[i], d * PARTS + part_of_columns, w[d * TILES + i], scales[d * TILES + i]);
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
                if (slab != 0) barrier();
                stage(slab * SLAB, square);
                barrier();
                const uint step = slab * PARTS + part_of_columns;
                if (step < steps) {
                    UNROLL for (uint r = 0; r < 4; r++) {
                        const float all = run_sum[part_of_columns * 4 + r];
                        UNROLL for (uint i = 0; i < TILES; i++) {
                            const uint word = w[d * TILES + i][r];
                            const u8vec4 even = unpack8(word & 0x0f0f0f0fu), odd = unpack8((word >> 4) & 0x0f0f0f0fu);
                            const uint group = (part_of_columns * 32 + r * 8) * 16;
                            float sum[2] = {0, 0};
                            UNROLL for (uint n = 0; n < 4; n++) {
                                sum[0] += sums[group + n * 32 + uint(even[n])];
                                sum[1] += sums[group + n * 32 + 16 + uint(odd[n])];
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
    if (id >= (SWIGLU ? 1 : TILES) * 32) return;
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
        if (SWIGLU) up += partial[(p * TILES + 1) * 32 + row];
    }
    sum *= inv_rms;
    if (SWIGLU) sum = silu(sum) * (up * inv_rms);
    const uint own_tile = SWIGLU ? workgroup_index() : workgroup_index() * TILES + i;
    const TilePlace place = TILE_PLACE(a, own_tile);
    if (row >= place.rows) return;
    const uint64_t at = a.y_first * 4 + uint64_t(place.row + row) * 4;
    if (a.residual != 0) sum += F32(a.residual + at).v[0];
    F32(a.y + at).v[0] = sum;
}

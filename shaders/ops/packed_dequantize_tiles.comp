#version 460
//! variant packed_dequantize_tiles_f32 OUTPUT_BYTES=4 PACK=pack_f16
//! variant packed_dequantize_tiles_f16 OUTPUT_BYTES=2 PACK=pack_f16
//! variant packed_dequantize_tiles_bf16 OUTPUT_BYTES=2 PACK=pack_bf16
// A workgroup takes a tile of 32 rows and RUNS runs of 32 columns. The words go to shared memory as they are, 16 bytes at a
// time; then an invocation makes the weights of 8 columns of a row, its neighbours those beside it, so that whole lines are
// written. Blocks are multiples of 8 columns.
#include "common.glsl"
#include "args/packed_dequantize.h"
layout(constant_id = 1) const uint BITS = 4;
layout(constant_id = 2) const uint RUNS = 16;
layout(constant_id = 3) const uint COPIES = 32;  // of the table, for neighbouring invocations
#include "ops/packed.glsl"
layout(push_constant, scalar) uniform Push { DequantizeTilesArgs a; };

const uint PITCH = RUNS + 1;  // so that the words of rows lie in different banks
shared uvec4 chunks[TILE_ROWS / 4 * BITS * PITCH];
shared float table[(1u << BITS) * COPIES];

uint pack_f16(float x, float y) { return packFloat2x16(f16vec2(float16_t(x), float16_t(y))); }
uint pack_bf16(float x, float y) { return uint(float_to_bf16(x)) | uint(float_to_bf16(y)) << 16; }

// Word i of a run of row r.
uint word_of(uint run, uint i, uint r) {
    const uint n = r % 4 * BITS + i;
    return chunks[(r / 4 * BITS + n / 4) * PITCH + run][n % 4];
}

void main() {
    const uint runs = runs_of(a.in_cols), groups = (runs + RUNS - 1) / RUNS, number = workgroup_index();
    if (number >= a.tiles * groups) return;
    const uint tile = a.first_tile + number / groups, run0 = number % groups * RUNS, count = min(runs - run0, RUNS);
    const TilePlace place = TILE_PLACE(a, tile);
    U32x4 words = U32x4(quad_address(a.indices, tile * TILE_ROWS, runs) + run0 * 16);
    for (uint i = gl_LocalInvocationIndex; i < count * BITS * (TILE_ROWS / 4); i += gl_WorkGroupSize.x)
        chunks[i / count * PITCH + i % count] = words.v[i / count * runs + i % count];
    F32 centroids = F32(a.centroids + place.part * ((INDEX_MASK + 1) * 4));
    for (uint i = gl_LocalInvocationIndex; i < (INDEX_MASK + 1) * COPIES; i += gl_WorkGroupSize.x)
        table[i] = centroids.v[i / COPIES];
    barrier();

    const uint copy = gl_LocalInvocationIndex % COPIES, blocks = a.in_cols / a.block_size, eighths = count * 4;
    for (uint i = gl_LocalInvocationIndex; i < eighths * TILE_ROWS; i += gl_WorkGroupSize.x) {
        const uint r = i / eighths, c = i % eighths * 8, run = c / 32, k = c % 32;
        const uint column = run0 * 32 + c;
        if (r >= place.rows || column >= a.in_cols) continue;
        const float scale = bf16_to_float(U16(scale_address(a.scales, tile * TILE_ROWS + r, column / a.block_size, blocks)).v[0]);
        uint low, high = 0;  // indices of 8 columns, from the lowest bit on; with 8 bits four each; with 3 bits 24 in all
        if (BITS == 3) {
            const uint x = word_of(run, 0, r), y = word_of(run, 1, r), z = word_of(run, 2, r);
            low = 0;
            [[unroll]] for (uint q = 0; q < 4; ++q) {
                const uint p = k / 2 + q, word = p < 5 ? x : p < 10 ? y : z;
                low |= (p < 15 ? word >> (p % 5 * 6) & 63u : last_pair(x, y, z)) << (6 * q);
            }
        } else {
            const uint w = k * BITS / 32;
            low = word_of(run, w, r) >> (k * BITS % 32);
            if (BITS == 8) high = word_of(run, w + 1, r);
        }
        float w[8];
        [[unroll]] for (uint e = 0; e < 8; ++e) {
            const uint index = (BITS == 8 && e >= 4 ? high >> (e % 4 * 8) : low >> (e * BITS % 32)) & INDEX_MASK;
            w[e] = table[index * COPIES + copy] * scale * a.factor;
        }
        const uint64_t at = a.weight + (uint64_t(place.row + r - a.first_row) * a.in_cols + column) * OUTPUT_BYTES;
        if (OUTPUT_BYTES == 4) {
            F32x4(at).v[0] = vec4(w[0], w[1], w[2], w[3]);
            F32x4(at).v[1] = vec4(w[4], w[5], w[6], w[7]);
        } else {
            U32x4(at).v[0] = uvec4(PACK(w[0], w[1]), PACK(w[2], w[3]), PACK(w[4], w[5]), PACK(w[6], w[7]));
        }
    }
}

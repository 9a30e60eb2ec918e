#version 460
//! variant packed_tile_1 BITS=1
//! variant packed_tile_2 BITS=2
//! variant packed_tile_3 BITS=3
//! variant packed_tile_4 BITS=4
//! variant packed_tile_8 BITS=8
// From the stored layout (rows of bits, most significant first) to the tiled one. An invocation makes the words of 32 columns of a
// row; behind those, one for each scale. Grid: linear over [tiles, 32 rows, runs], then [tiles, 32 rows, blocks].
#include "common.glsl"
#include "args/packed_linear.h"
#include "ops/packed.glsl"
layout(push_constant, scalar) uniform Push { TilePackedArgs a; };

uint stored_index(uint64_t row, uint i) {
    const uint first = i * BITS, byte = first >> 3, end = (first & 7u) + BITS;
    uint window = uint(U8(row).v[byte]) << 8;
    if (end > 8) window |= uint(U8(row).v[byte + 1]);  // only 3 bits reach into the next byte
    return (window >> (16 - end)) & INDEX_MASK;
}

void main() {
    const uint runs = runs_of(a.in_cols);
    const uint padded_rows = (a.rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    uint id = invocation_index();
    if (id < padded_rows * runs) {
        const uint run = id % runs, row = id / runs;  // neighbours write side by side
        uint word[BITS];
        for (uint i = 0; i < BITS; i++) word[i] = 0;
        if (row < a.rows)
            for (uint k = 0; k < 32 && run * 32 + k < a.in_cols; k++) {
                const uint index = stored_index(a.packed + uint64_t(row) * (uint64_t(a.in_cols) * BITS / 8), run * 32 + k);
#if BITS == 3
                const uint pair = k / 2;
                if (pair < 15) {
                    word[pair / 5] |= index << (6 * (pair % 5) + 3 * (k % 2));
                } else {
                    const uint six = index << (3 * (k % 2));
                    word[0] |= (six & 3u) << 30;
                    word[1] |= (six >> 2 & 3u) << 30;
                    word[2] |= (six >> 4) << 30;
                }
#else
                word[k * BITS / 32] |= index << (k * BITS % 32);
#endif
            }
        const uint tiled_row = a.first_tile * TILE_ROWS + row;
        for (uint i = 0; i < BITS; i++) U32(quad_address(a.indices, tiled_row, runs)).v[word_at(tiled_row, run, i, runs)] = word[i];
        return;
    }
    id -= padded_rows * runs;
    if (id >= padded_rows * a.blocks) return;
    const uint row = id / 4 / a.blocks * 4 + id % 4, block = id / 4 % a.blocks;
    uint16_t scale = uint16_t(0);
    if (row < a.rows) scale = U16(a.scales + uint64_t(row) * a.blocks * 2).v[block];
    U16(scale_address(a.tiled_scales, a.first_tile * TILE_ROWS + row, block, a.blocks)).v[0] = scale;
}

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
    const uint steps = steps_of(a.in_cols), runs = steps * 4;
    const uint padded_rows = (a.rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    uint id = invocation_index();
    if (id < padded_rows * runs) {
        // rows run fastest, so that neighbours write side by side
        const uint r = id % TILE_ROWS, run = id / TILE_ROWS % runs, tile = id / TILE_ROWS / runs;
        const uint row = tile * TILE_ROWS + r;
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
        U32 to = U32(chunk_address(a.indices, a.first_tile + tile, run / 4, steps, r));
        for (uint i = 0; i < BITS; i++) {
            const uint w = run % 4 * BITS + i;
            to.v[w / 4 * 128 + w % 4] = word[i];
        }
        return;
    }
    id -= padded_rows * runs;
    if (id >= padded_rows * a.blocks) return;
    const uint r = id % TILE_ROWS, block = id / TILE_ROWS % a.blocks, tile = id / TILE_ROWS / a.blocks;
    const uint row = tile * TILE_ROWS + r;
    uint16_t scale = uint16_t(0);
    if (row < a.rows) scale = U16(a.scales + uint64_t(row) * a.blocks * 2).v[block];
    U16(a.tiled_scales + ((uint64_t(a.first_tile) + tile) * a.blocks + block) * (TILE_ROWS * 2)).v[r] = scale;
}

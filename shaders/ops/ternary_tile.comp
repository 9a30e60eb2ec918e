#version 460
//! variant ternary_tile_2 FIVE=0
//! variant ternary_tile_5 FIVE=1
// Stored rows to tiles (ternary.glsl). An invocation makes a chunk of a row. Grid: linear over [tiles, chunks, 32 rows].
#include "common.glsl"
#include "args/ternary_linear.h"
layout(push_constant, scalar) uniform Push { TileTernaryArgs a; };
#include "ops/ternary.glsl"

void main() {
    const uint chunks = chunks_of(a.in_cols), id = invocation_index(), tiles = (a.rows + 31) / 32;
    const uint r = id % 32, chunk = id / 32 % chunks, tile = id / 32 / chunks, row = tile * 32 + r;
    if (tile >= tiles) return;
    const uint row_bytes = FIVE != 0 ? (a.in_cols + 4) / 5 : a.in_cols / 4;
    uint word[4];
    for (uint j = 0; j < 4; j++) word[j] = FIVE != 0 ? 0x79797979u : 0x55555555u;  // 0 everywhere: 1 + 3 + 9 + 27 + 81
    if (row < a.rows)
        for (uint b = 0; b < 16; b++) {
            if (chunk * 16 + b >= row_bytes) break;
            uint rest = uint(U8(a.packed + uint64_t(row) * row_bytes).v[chunk * 16 + b]);
#if FIVE
            for (uint k = 0; k < 5; k++, rest /= 3) {
                const uint column = b * 5 + k, of_word = column % 20;  // of the chunk
                if (chunk * 80 + column >= a.in_cols) break;
                const uint byte = of_word < 16 ? of_word / 4 : of_word - 16, place = of_word < 16 ? of_word % 4 : 4;
                const uint power = place == 0 ? 1 : place == 1 ? 3 : place == 2 ? 9 : place == 3 ? 27 : 81;
                word[column / 20] += (rest % 3 - 1) * power << (8 * byte);
            }
#else
            // The first column of a byte is in its highest bits there, and in the lowest here.
            const uint turned = rest >> 6 | (rest >> 2 & 0x0cu) | (rest << 2 & 0x30u) | (rest << 6 & 0xc0u);
            word[b / 4] += (turned - 0x55u) << (8 * (b % 4));
#endif
        }
    const uint64_t to = (uint64_t(a.first_tile + tile) * chunks + chunk) * 32 + r;
    U32x4(a.indices + to * 16).v[0] = uvec4(word[0], word[1], word[2], word[3]);
}

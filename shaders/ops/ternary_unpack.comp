#version 460
//! variant ternary_unpack_2 FIVE=0
//! variant ternary_unpack_5 FIVE=1
// Tiles back to the 2 bits in which weights are stored. An invocation has a chunk of a row: 16 or 20 bytes there, as far as the row
// goes. Grid: linear over [tiles, 32 rows, chunks].
#include "common.glsl"
#include "args/ternary_linear.h"
layout(push_constant, scalar) uniform Push { UnpackTernaryArgs a; };
#include "ops/ternary.glsl"

void main() {
    const uint chunks = chunks_of(a.in_cols), id = invocation_index();
    const uint chunk = id % chunks, row = id / chunks;
    if (row >= a.rows) return;
    const uint64_t at = (uint64_t(a.first_tile + row / 32) * chunks + chunk) * 32 + row % 32;
    const uvec4 words = U32x4(a.indices + at * 16).v[0];
#if FIVE
    const uint WORDS = 5;
    uint two[5] = {0, 0, 0, 0, 0};  // first column lowest
    [[unroll]] for (uint b = 0; b < 16; b++) {
        uint rest = words[b / 4] >> (8 * (b % 4)) & 255u;
        [[unroll]] for (uint k = 0; k < 5; k++, rest /= 3) {
            const uint column = b / 4 * 20 + (k < 4 ? b % 4 * 4 + k : 16 + b % 4);
            two[column / 16] |= rest % 3 << (2 * (column % 16));
        }
    }
#else
    const uint WORDS = 4;
    const uint two[4] = {words.x, words.y, words.z, words.w};
#endif
    // The first column of a byte is in its highest bits there.
    U8 to = U8(a.packed + uint64_t(row) * (a.in_cols / 4) + chunk * (WORDS * 4));
    const uint bytes = min(WORDS * 4, a.in_cols / 4 - chunk * (WORDS * 4));
    [[unroll]] for (uint w = 0; w < WORDS; w++) {
        const uint turned =
            (two[w] >> 6 & 0x03030303u) | (two[w] >> 2 & 0x0c0c0c0cu) | (two[w] << 2 & 0x30303030u) | (two[w] << 6 & 0xc0c0c0c0u);
        [[unroll]] for (uint b = 0; b < 4; b++)
            if (w * 4 + b < bytes) to.v[w * 4 + b] = uint8_t(turned >> (8 * b) & 255u);
    }
}

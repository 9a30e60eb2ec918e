#version 460
//! variant ternary_unpack_2 FIVE=0
//! variant ternary_unpack_5 FIVE=1
//! variant ternary_unpack_2_bf16 FIVE=0 BF16
//! variant ternary_unpack_5_bf16 FIVE=1 BF16
// Tiles back to the 2 bits in which weights are stored. An invocation has a chunk of a row: 16 or 20 bytes there, as far as the row
// goes. Or to bf16, for which an invocation has a word of a chunk. Grid: linear over [rows, chunks] or [rows, chunks, 4].
#include "common.glsl"
#include "args/ternary_linear.h"
layout(push_constant, scalar) uniform Push { UnpackTernaryArgs a; };
#include "ops/ternary.glsl"

#ifdef BF16
uvec2 four(const uint digit[4], uint scale) {
    uint h[4];
    [[unroll]] for (uint k = 0; k < 4; k++) h[k] = digit[k] == 1 ? 0 : digit[k] == 0 ? scale ^ 0x8000u : scale;
    return uvec2(h[0] | h[1] << 16, h[2] | h[3] << 16);
}

void main() {
    const uint chunks = chunks_of(a.in_cols), id = invocation_index();
    const uint w = id % 4, chunk = id / 4 % chunks, row = id / 4 / chunks;
    if (row >= a.rows) return;
    const uint64_t at = (uint64_t(a.first_tile + row / 32) * chunks + chunk) * 32 + row % 32;
    const uint word = U32(a.indices + at * 16).v[w], scale = uint(U16(a.scales).v[row]);
    const uint first = chunk * CHUNK_COLUMNS + w * (CHUNK_COLUMNS / 4);
    U32x2 to = U32x2(a.packed + (uint64_t(row) * a.in_cols + first) * 2);
#if FIVE
    uint last[4];
    [[unroll]] for (uint b = 0; b < 4; b++) {
        uint rest = word >> (8 * b) & 255u, digit[4];
        [[unroll]] for (uint k = 0; k < 4; k++, rest /= 3) digit[k] = rest % 3;
        last[b] = rest % 3;
        if (first + 4 * b < a.in_cols) to.v[b] = four(digit, scale);
    }
    if (first + 16 < a.in_cols) to.v[4] = four(last, scale);
#else
    [[unroll]] for (uint b = 0; b < 4; b++) {
        uint digit[4];
        [[unroll]] for (uint k = 0; k < 4; k++) digit[k] = word >> (8 * b + 2 * k) & 3u;
        if (first + 4 * b < a.in_cols) to.v[b] = four(digit, scale);
    }
#endif
}
#else
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
#endif

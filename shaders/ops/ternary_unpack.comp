#version 460
//! variant ternary_unpack_2 FIVE=0
//! variant ternary_unpack_5 FIVE=1
//! variant ternary_unpack_2_bf16 FIVE=0 BF16
//! variant ternary_unpack_5_bf16 FIVE=1 BF16
// Tiles back to the 2 bits in which weights are stored. An invocation has a chunk of a row: 16 or 20 bytes there, as far as the row
// goes. Grid: linear over [rows, chunks]. Or to bf16: an invocation has eight columns, 16 bytes there, and its neighbours the next ones
// of the chunk, then those of three more rows, whose chunks lie side by side. Grid: linear over [rows / 4, chunks, 4, columns / 8].
#include "common.glsl"
#include "args/ternary_linear.h"
layout(push_constant, scalar) uniform Push { UnpackTernaryArgs a; };
#include "ops/ternary.glsl"

#ifdef BF16
// Four columns of a chunk: the digits of a byte, or five to a byte the last digits of a word's four.
uvec2 four_columns(uint64_t words, uint quad, uint scale) {
#if FIVE
    const uint word = U32(words).v[quad / 5], of_word = quad % 5;
    const uint byte = word >> (8 * min(of_word, 3)) & 255u;
#else
    const uint byte = U32(words).v[quad / 4] >> (8 * (quad % 4)) & 255u;
#endif
    uint h[4];
    [[unroll]] for (uint k = 0; k < 4; k++) {
#if FIVE
        const uint powers[4] = {1, 3, 9, 27};
        const uint digit = of_word < 4 ? byte / powers[k] % 3 : (word >> (8 * k) & 255u) / 81;
#else
        const uint digit = byte >> (2 * k) & 3u;
#endif
        h[k] = digit == 1 ? 0 : digit == 0 ? scale ^ 0x8000u : scale;
    }
    return uvec2(h[0] | h[1] << 16, h[2] | h[3] << 16);
}

void main() {
    const uint eighths = CHUNK_COLUMNS / 8, chunks = chunks_of(a.in_cols), id = invocation_index();
    const uint eighth = id % eighths, chunk = id / (4 * eighths) % chunks;
    const uint row = id / (4 * eighths) / chunks * 4 + id / eighths % 4, first = chunk * CHUNK_COLUMNS + 8 * eighth;
    if (row >= a.rows || first >= a.in_cols) return;
    const uint64_t at = (uint64_t(a.first_tile + row / 32) * chunks + chunk) * 32 + row % 32;
    const uint scale = uint(U16(a.scales).v[row]);
    const uvec2 low = four_columns(a.indices + at * 16, 2 * eighth, scale);
    const uvec2 high = four_columns(a.indices + at * 16, 2 * eighth + 1, scale);
    const uint64_t to = a.packed + (uint64_t(row) * a.in_cols + first) * 2;
    if (a.in_cols % 8 == 0) {
        U32x4(to).v[0] = uvec4(low, high);
    } else {  // rows of whole 8 bytes
        U32x2(to).v[0] = low;
        if (first + 4 < a.in_cols) U32x2(to).v[1] = high;
    }
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

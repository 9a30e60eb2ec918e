#version 460
//! variant packed_linear_rows_1 BITS=1
//! variant packed_linear_rows_2 BITS=2
//! variant packed_linear_rows_3 BITS=3
//! variant packed_linear_rows_4 BITS=4
//! variant packed_linear_rows_8 BITS=8
// One lane per row, fp32 throughout: x is the same for all lanes, which is what a CPU driver loads fast, and nothing is summed
// across lanes. Also where packed_matvec.comp cannot go: scales of blocks that are no multiple of 32 columns.
// Grid: (32 * tiles / width, 1, groups of tokens).
#include "common.glsl"
#include "args/packed_linear.h"
#include "ops/packed.glsl"
layout(push_constant, scalar) uniform Push { PackedLinearArgs a; };
layout(constant_id = 1) const uint group_tokens = 1;   // at most 8
layout(constant_id = 2) const bool whole_runs = true;  // 32 divides block_size
layout(constant_id = 3) const uint BLOCK_SIZE = 64;
#define UNROLL [[unroll]]

// The table of centroids: up to 8 in registers, found by selects on the index' bits; more are read from memory.
const bool TABLE_IN_REGISTERS = BITS <= 3;
float table[8];
void load_table(uint64_t centroids) {
    if (!TABLE_IN_REGISTERS) return;
    UNROLL for (uint i = 0; i < 8; i++)
        if (i <= INDEX_MASK) table[i] = F32(centroids).v[i];
}
float centroid_of(uint64_t centroids, uint index) {
#if BITS == 1
    return mix(table[0], table[1], index != 0);
#elif BITS <= 3
    const bool b0 = (index & 1u) != 0, b1 = (index & 2u) != 0;
    const float low = mix(mix(table[0], table[1], b0), mix(table[2], table[3], b0), b1);
    if (BITS == 2) return low;
    return mix(low, mix(mix(table[4], table[5], b0), mix(table[6], table[7], b0), b1), (index & 4u) != 0);
#else
    return F32(centroids).v[index];
#endif
}

void main() {
    const uint place = invocation_index(), token0 = gl_WorkGroupID.z * group_tokens;
    const uint tiles = a.tiles_2 + (a.rows_2 + TILE_ROWS - 1) / TILE_ROWS;
    const uint tile = min(place / TILE_ROWS, tiles - 1), r = place % TILE_ROWS;
    const TilePlace at = TILE_PLACE(a, tile);
    const bool inside = place / TILE_ROWS < tiles && r < at.rows;
    const uint tiled_row = tile * TILE_ROWS + r, runs = runs_of(a.in_cols), blocks = a.in_cols / BLOCK_SIZE;
    const uint64_t centroids = a.centroids + at.part * ((INDEX_MASK + 1) * 4);
    load_table(centroids);
    U32 words = U32(quad_address(a.indices, tiled_row, runs));
    U16 scales = U16(scale_address(a.scales, tiled_row, 0, blocks));
    uint64_t x_address[8], y_address[8];
    float sum[8];
    bool store[8];
    UNROLL for (uint t = 0; t < 8; t++)
        if (t < group_tokens) {
            const uint token = min(token0 + t, a.tokens - 1);
            x_address[t] = a.x + uint64_t(token) * a.in_cols * 4;
            y_address[t] = a.y + (uint64_t(token) * a.y_cols + a.y_first) * 4;
            store[t] = inside && token0 + t < a.tokens;
            sum[t] = 0.0;
        }
    uint i0 = 0;
    const uint whole = whole_runs ? a.in_cols / 32 * 32 : 0;
    if (whole_runs && whole != 0) {
        do {
            uint word[8];
            UNROLL for (uint i = 0; i < BITS; i++) word[i] = words.v[word_at(r, i0 / 32, i, runs)];
            const float scale_of_run = bf16_to_float(scales.v[i0 / BLOCK_SIZE * 4]);
            float part[8];
            UNROLL for (uint t = 0; t < 8; t++)
                if (t < group_tokens) part[t] = 0.0;
            UNROLL for (uint i = 0; i < 32; i++) {
                const float c = centroid_of(centroids, INDEX_OF_RUN(word, i));
                UNROLL for (uint t = 0; t < 8; t++)
                    if (t < group_tokens) part[t] += c * F32(x_address[t] + uint64_t(i0) * 4).v[i];
            }
            UNROLL for (uint t = 0; t < 8; t++)
                if (t < group_tokens) sum[t] += part[t] * scale_of_run;
            i0 += 32;
        } while (i0 < whole);
    }
    if (i0 < a.in_cols) {
        do {
            const float w = centroid_of(centroids, index_at(a.indices, tiled_row, i0, runs)) *
                            bf16_to_float(scales.v[i0 / BLOCK_SIZE * 4]);
            UNROLL for (uint t = 0; t < 8; t++)
                if (t < group_tokens) sum[t] += w * F32(x_address[t]).v[i0];
            i0++;
        } while (i0 < a.in_cols);
    }
    UNROLL for (uint t = 0; t < 8; t++)
        if (t < group_tokens && store[t]) F32(y_address[t]).v[at.row + r] = sum[t];
}

#ifndef VKQAT_ARGS_PACKED_MATMUL_H
#define VKQAT_ARGS_PACKED_MATMUL_H
#include "args.h"
ARGS_BEGIN

// y = residual + x W^T on matrix units, W packed as in runtime/ops/packed_linear.h.
struct PackedMatmulArgs {
    ADDRESSES(7)
    ADDRESS x;          // f32, f16 or bf16 [tokens, in]
    ADDRESS factors;    // f32 [tokens], factors of y's rows, or 0
    ADDRESS indices;    // u32 [tiles, steps, bits, 32, 4]
    ADDRESS scales;     // bf16 [tiles, blocks, 32]
    ADDRESS centroids;  // f32 [parts, 2^bits]
    ADDRESS residual;   // f32, as y, or 0; may be y
    ADDRESS y;          // f32 [tokens, y_cols], written from column y_first on
    ARG_UINT tokens, in_cols, y_cols, y_first;
    ARG_UINT tiles_1, tiles_2;        // first tile of parts 1 and 2
    ARG_UINT rows_0, rows_1, rows_2;  // rows of the parts
};

// x as f16, each row divided by a power of two.
struct PackedMatmulInputArgs {
    ADDRESSES(3)
    ADDRESS x;        // f32 or bf16 [tokens, cols]
    ADDRESS scaled;   // f16 [tokens, cols]
    ADDRESS factors;  // f32 [tokens]
    ARG_UINT cols;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_BLOCK_SUMS_H
#define VKQAT_ARGS_BLOCK_SUMS_H
#include "args.h"
ARGS_BEGIN

// y[i] = sum of x[i * size .. (i + 1) * size - 1].
struct BlockSumsArgs {
    ADDRESSES(2)
    ADDRESS x;  // f32 [blocks, size]
    ADDRESS y;  // f32 [blocks]
    ARG_UINT blocks, size;
};

// offsets = (center - zero) * scale; zeros and scales as runtime/ops/packed_linear.h has them.
struct BlockOffsetsArgs {
    ADDRESSES(3)
    ADDRESS zeros;    // u8 [8 tiles, blocks, 4]
    ADDRESS scales;   // bf16, the same
    ADDRESS offsets;  // f32 [any, blocks], written from first_row on
    ARG_UINT first_row, blocks, tiles_1, tiles_2, rows_0, rows_1, rows_2;
    ARG_FLOAT center;
};

ARGS_END

#endif

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

// y = residual + offsets (sums of norm(x) over blocks)
struct BlockOffsetsArgs {
    ADDRESSES(5)
    ADDRESS x;         // f32 [tokens, in]
    ADDRESS norm;      // weight of an RMS norm of x, [in], or 0
    ADDRESS offsets;   // f32 [rows, in / block_size]
    ADDRESS residual;  // f32, as y, or 0; may be y
    ADDRESS y;         // f32 [tokens, rows]
    ARG_UINT rows, in_cols, block_size;
    ARG_FLOAT eps;
};

ARGS_END

#endif

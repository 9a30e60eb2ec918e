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

ARGS_END

#endif

#ifndef VKQAT_ARGS_CLIPPING_H
#define VKQAT_ARGS_CLIPPING_H
#include "args.h"
ARGS_BEGIN

// gram[b, i, j] = sum over tokens of x[t, b * group + i] * x[t, b * group + j].
struct GramBlocksArgs {
    ADDRESSES(2)
    ADDRESS x;     // f32 [tokens, cols]
    ADDRESS gram;  // f32 [cols / group, group, group]
    ARG_UINT tokens, cols, group;
};

// The smallest and largest value that weights of each block are clamped to, and the squared error of the block's contribution to
// the layer's output over all tokens that remains.
struct ClipSearchArgs {
    ADDRESSES(4)
    ADDRESS weight;  // f32 [rows, cols]
    ADDRESS gram;    // f32 [cols / group, group, group]
    ADDRESS bounds;  // f32 [rows, cols / group, 2]: smallest, largest
    ADDRESS error;   // f32 [rows, cols / group, 2]: without clamping, with it
    ARG_UINT rows, cols, group;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_ROPE_H
#define VKQAT_ARGS_ROPE_H
#include "args.h"
ARGS_BEGIN

// y = base + rotated x. Of each row the first `heads` heads are rotated, the columns behind them copied.
struct RopeArgs {
    ADDRESSES(5)
    ADDRESS x;        // f32 [rows, cols]
    ADDRESS table;    // f32 [positions, head_dim]: cosines, then sines
    ADDRESS start;    // u32 [1], or absent: 0
    ADDRESS base, y;  // [rows, cols]; base is f32 or absent
    ARG_UINT rows, cols, heads, positions;
    ARG_UINT seq_len;  // position = start + row % seq_len
    ARG_FLOAT sign;    // -1 rotates back
};

ARGS_END

#endif

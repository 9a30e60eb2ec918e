#ifndef VKQAT_ARGS_SWIGLU_H
#define VKQAT_ARGS_SWIGLU_H
#include "args.h"
ARGS_BEGIN

// y = silu(gate) * up. Rows of gate and up begin every `stride` elements, up's first one `up_offset` elements on.
struct SwigluArgs {
    ADDRESSES(4)
    ADDRESS gate, up;  // f32 [rows, cols]
    ADDRESS y;         // [rows, cols], dense
    ADDRESS saved;     // gate and up in y's type, laid out as they are, or absent
    ARG_UINT rows, cols, stride, up_offset;
};

// d_gate = base_gate + ..., d_up = base_up + ..., laid out as gate and up; any of the four may be absent.
struct SwigluBackwardArgs {
    ADDRESSES(7)
    ADDRESS gate, up;  // [rows, cols]
    ADDRESS dy;        // f32 [rows, cols], dense
    ADDRESS base_gate, d_gate, base_up, d_up;
    ARG_UINT rows, cols, stride, up_offset;
};

ARGS_END

#endif

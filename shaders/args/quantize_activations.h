#ifndef VKQAT_ARGS_QUANTIZE_ACTIVATIONS_H
#define VKQAT_ARGS_QUANTIZE_ACTIVATIONS_H
#include "args.h"
ARGS_BEGIN

// q = clamp(round(x a), -128, 127) / a, a = 127 / max(1e-5, max |x|) of each row. y = x + strength[0] (q - x).
struct QuantizeActivationsArgs {
    ADDRESSES(3)
    ADDRESS x, y;      // f32 [rows, dim]
    ADDRESS strength;  // f32 [1], absent: 1
    ARG_UINT rows, dim;
};

ARGS_END

#endif

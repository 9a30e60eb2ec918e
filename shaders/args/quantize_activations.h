#ifndef VKQAT_ARGS_QUANTIZE_ACTIVATIONS_H
#define VKQAT_ARGS_QUANTIZE_ACTIVATIONS_H
#include "args.h"
ARGS_BEGIN

// y = clamp(round(x a), -128, 127) / a, a = 127 / max(1e-5, max |x|) of each row.
struct QuantizeActivationsArgs {
    ADDRESSES(2)
    ADDRESS x, y;  // f32 [rows, dim]
    ARG_UINT rows, dim;
};

ARGS_END

#endif

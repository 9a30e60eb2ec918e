#ifndef VKQAT_ARGS_ADD_H
#define VKQAT_ARGS_ADD_H
#include "args.h"
ARGS_BEGIN

// out = base + x, elementwise.
struct AddArgs {
    ADDRESSES(3)
    ADDRESS base, x, y;  // f32 [count]
    ARG_UINT count;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_FILL_H
#define VKQAT_ARGS_FILL_H
#include "args.h"
ARGS_BEGIN

struct FillArgs {
    ADDRESSES(1)
    ADDRESS y;  // [count] of 4 bytes
    ARG_UINT count, word;
};

ARGS_END

#endif

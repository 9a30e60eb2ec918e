#ifndef VKQAT_ARGS_CAST_H
#define VKQAT_ARGS_CAST_H
#include "args.h"
ARGS_BEGIN

struct CastArgs {
    ADDRESSES(2)
    ADDRESS x, y;  // [count]
    ARG_UINT count;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_RANDOM_H
#define VKQAT_ARGS_RANDOM_H
#include "args.h"
ARGS_BEGIN

struct RandomArgs {
    ADDRESSES(1)
    ADDRESS y;
    ARG_UINT chunks;  // of 16 bytes
    ARG_UINT seed;
    ARG_FLOAT low, high;
};

ARGS_END

#endif

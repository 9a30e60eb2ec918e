#ifndef VKQAT_ARGS_READ_ALL_H
#define VKQAT_ARGS_READ_ALL_H
#include "args.h"
ARGS_BEGIN

struct ReadAllArgs {
    ADDRESSES(2)
    ADDRESS from;  // [count] of 16 bytes
    ADDRESS seen;  // u32 [workgroups, subgroups]
    ARG_UINT count;
};

ARGS_END

#endif

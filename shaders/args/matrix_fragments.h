#ifndef VKQAT_ARGS_MATRIX_FRAGMENTS_H
#define VKQAT_ARGS_MATRIX_FRAGMENTS_H
#include "args.h"
ARGS_BEGIN

struct MatrixFragmentsArgs {
    ADDRESSES(1)
    ADDRESS numbers;  // f32 [32 lanes, 16]
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_MATMUL_H
#define VKQAT_ARGS_MATMUL_H
#include "args.h"
ARGS_BEGIN

// c = base + a b, in one of three orders (runtime/ops/matmul.h).
struct MatmulArgs {
    ADDRESSES(4)
    ADDRESS a, b, base, c;  // base may be absent, or c
    ARG_UINT m, n, k;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_MATMUL_H
#define VKQAT_ARGS_MATMUL_H
#include "args.h"
ARGS_BEGIN

// c = base + a b, in one of three orders (runtime/ops/matmul.h).
struct MatmulArgs {
    ADDRESSES(5)
    ADDRESS a, b, base, c;  // base may be absent, or c
    ADDRESS factors;        // on matrix units: f32 [m], factors of a b, or 0
    ARG_UINT m, n, k;
    ARG_UINT c_cols, c_first;  // on matrix units: base and c are [m, c_cols], columns c_first .. c_first + n - 1 are meant
};

ARGS_END

#endif

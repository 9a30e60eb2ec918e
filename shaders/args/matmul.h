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
    ARG_UINT k_part;  // of a workgroup; the sums of each part of k go to an own c, [parts, m, c_cols]. All of k: one part
    ARG_UINT c_cols, c_first;  // on matrix units: base and c are [m, c_cols], columns c_first .. c_first + n - 1 are meant
};

// c = base + the sum of the parts.
struct SumPartsArgs {
    ADDRESSES(3)
    ADDRESS parts;    // f32 [parts, count]
    ADDRESS base, c;  // f32 [count]; base may be absent, or c
    ARG_UINT count, part_count;
};

ARGS_END

#endif

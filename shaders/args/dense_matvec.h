#ifndef VKQAT_ARGS_DENSE_MATVEC_H
#define VKQAT_ARGS_DENSE_MATVEC_H
#include "args.h"
ARGS_BEGIN

// y = x W^T, few tokens (shaders/ops/dense_matvec.comp).
struct DenseMatvecArgs {
    ADDRESSES(5)
    ADDRESS x;         // f32 [tokens, in]
    ADDRESS weight;    // [out, in]
    ADDRESS norm;      // weight of an RMS norm of x, [in], or 0
    ADDRESS residual;  // f32, as y, or 0; may be y
    ADDRESS y;         // f32 [tokens, out], or [tokens, out / 2] with SWIGLU
    ARG_UINT tokens, in_cols, out_rows;
    ARG_FLOAT eps;
};

ARGS_END

#endif

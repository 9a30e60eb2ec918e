#ifndef VKQAT_ARGS_RMS_NORM_H
#define VKQAT_ARGS_RMS_NORM_H
#include "args.h"
ARGS_BEGIN

// y = x * inv_rms * weight, inv_rms = 1 / sqrt(mean(x^2) + eps) of each row.
struct RmsNormArgs {
    ADDRESSES(4)
    ADDRESS x;        // f32 [rows, dim]
    ADDRESS weight;   // [dim]
    ADDRESS y;        // [rows, dim]
    ADDRESS inv_rms;  // f32 [rows], or absent
    ARG_UINT rows, dim;
    ARG_FLOAT eps;
};

struct RmsNormBackwardArgs {
    ADDRESSES(6)
    ADDRESS dy, x;     // f32 [rows, dim]
    ADDRESS weight;    // [dim]
    ADDRESS inv_rms;   // f32 [rows]
    ADDRESS base, dx;  // f32 [rows, dim]; base may be absent
    ARG_UINT rows, dim;
};

// Sums of dy * x * inv_rms over chunks of rows.
struct RmsNormPartialArgs {
    ADDRESSES(4)
    ADDRESS dy, x;    // f32 [rows, dim]
    ADDRESS inv_rms;  // f32 [rows]
    ADDRESS partial;  // f32 [chunks, dim]
    ARG_UINT rows, dim, chunk_rows;
};

// d_weight = base + the sum of the chunks.
struct RmsNormWeightArgs {
    ADDRESSES(3)
    ADDRESS partial;         // f32 [chunks, dim]
    ADDRESS base, d_weight;  // f32 [dim]; base may be absent
    ARG_UINT chunks, dim;
};

ARGS_END

#endif

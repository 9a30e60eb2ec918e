#ifndef VKQAT_ARGS_ONEBIT_H
#define VKQAT_ARGS_ONEBIT_H
#include "args.h"
ARGS_BEGIN

// y = base + x * factor, the factor by column.
struct ScaleColumnsArgs {
    ADDRESSES(4)
    ADDRESS x;        // f32 [rows, dim]
    ADDRESS factor;   // [dim]
    ADDRESS base, y;  // f32 [rows, dim]; base may be absent
    ARG_UINT rows, dim;
};

// y = (t - mean(t)) / sqrt(var(t) + eps) over each row of t = u * factor, into columns first .. first + dim - 1 of y.
struct OnebitNormArgs {
    ADDRESSES(4)
    ADDRESS u;           // f32 [rows, dim]
    ADDRESS factor;      // [dim]
    ADDRESS y;           // f32 [rows, stride]
    ADDRESS statistics;  // f32 [rows, 2]: mean, 1 / sqrt(var + eps); may be absent
    ARG_UINT rows, dim, stride, first;
    ARG_FLOAT eps;
};

// The same of up to three parts side by side, each with its norm: y = LN(u * factor) + residual, or silu(first) * second.
struct OnebitOutputArgs {
    ADDRESSES(5)
    ADDRESS u;         // f32 [tokens, sum of rows]
    ADDRESS factors;   // f32 [sum of rows]
    ADDRESS x;         // f32 [tokens, in]: u was divided by its root mean square, with input_eps; or 0
    ADDRESS residual;  // f32, as y, or 0; may be y
    ADDRESS y;         // f32 [tokens, sum of rows, or rows_0]
    ARG_UINT rows_0, rows_1, rows_2, in_cols;
    ARG_FLOAT eps, input_eps;
};

struct OnebitNormBackwardArgs {
    ADDRESSES(6)
    ADDRESS dy;          // f32 [rows, stride]
    ADDRESS u;           // f32 [rows, dim]
    ADDRESS factor;      // [dim]
    ADDRESS statistics;  // f32 [rows, 2]
    ADDRESS dt, du;      // f32 [rows, dim]
    ARG_UINT rows, dim, stride, first;
};

// The start of a sign matrix. magnitudes = |w| and the sum of each row's squares; or, in place, w = 0.01 sign(w).
struct OnebitStartArgs {
    ADDRESSES(3)
    ADDRESS w;           // f32 [rows, dim]
    ADDRESS magnitudes;  // f32 [rows, dim], or absent: signs
    ADDRESS squares;     // f32 [rows], or absent
    ARG_UINT rows, dim;
};

// Sums of a * b over chunks of rows.
struct ColumnProductsArgs {
    ADDRESSES(3)
    ADDRESS a, b;     // f32 [rows, dim]
    ADDRESS partial;  // f32 [chunks, dim]
    ARG_UINT rows, dim, chunk_rows;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_TERNARY_LINEAR_H
#define VKQAT_ARGS_TERNARY_LINEAR_H
#include "args.h"
ARGS_BEGIN

// y = x_q W^T, W[o, i] = t s with t of -1, 0, 1 and one s for each row, x_q = q / a with q of -127 .. 127 and one a for each
// token (runtime/ops/ternary_linear.h). The rows of W are those of up to three parts, each padded to whole tiles of 32.
struct TernaryLinearArgs {
    ADDRESSES(8)
    ADDRESS x;          // f32 [tokens, in], or q: s8 [tokens, padded], in the order in which the weights lie
    ADDRESS factors;    // {float 1 / a, int sum of q} [tokens]: where x is q
    ADDRESS indices;    // u32 [tiles, chunks, 32, 4]
    ADDRESS scales;     // bf16 [out]
    ADDRESS centroids;  // f32 [parts, 4]; the third times a row's scale is s
    ADDRESS norm;       // weight of an RMS norm of x, [in], or 0
    ADDRESS residual;   // f32, as y, or 0; may be y
    ADDRESS y;          // f32 [tokens, y_cols]
    ARG_UINT tokens, in_cols, y_cols;
    ARG_UINT tiles_1, tiles_2;        // first tile of parts 1 and 2; the number of tiles where there is no such part
    ARG_UINT rows_0, rows_1, rows_2;  // rows of the parts
    ARG_UINT tiles;
    ARG_FLOAT eps, second_eps;
};

// q and factors of x: as above, or for products of many tokens q as bf16 [tokens, in] and s / a, f32 [parts, tokens].
struct TernaryInputArgs {
    ADDRESSES(5)
    ADDRESS x, norm;  // as above
    ADDRESS centroids;
    ADDRESS quantized, factors;
    ARG_UINT tokens, in_cols, padded, parts;
    ARG_FLOAT eps, second_eps;
};

// Weights as they are stored (runtime/formats/packing.h), to the device's layout.
struct TileTernaryArgs {
    ADDRESSES(2)
    ADDRESS packed;   // u8 [rows, in / 4] or [rows, (in + 4) / 5]
    ADDRESS indices;  // u32 [tiles, chunks, 32, 4]; tiles from first_tile on are written
    ARG_UINT rows, in_cols, first_tile;
};

// The device's layout to the 2 bits in which weights are stored, or to bf16.
struct UnpackTernaryArgs {
    ADDRESSES(3)
    ADDRESS indices;  // u32 [tiles, chunks, 32, 4]; tiles from first_tile on are read
    ADDRESS scales;   // bf16 [rows]: for bf16
    ADDRESS packed;   // u8 [rows, in / 4], or t times the row's scale as bf16 [rows, in]
    ARG_UINT rows, in_cols, first_tile;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_PACKED_DEQUANTIZE_H
#define VKQAT_ARGS_PACKED_DEQUANTIZE_H
#include "args.h"
ARGS_BEGIN

// Tiles of a packed weight (runtime/ops/packed_linear.h) as floats.
struct DequantizeTilesArgs {
    ADDRESSES(4)
    ADDRESS indices, scales, centroids;  // as in PackedLinearArgs
    ADDRESS weight;                      // [rows of the tiles, in]
    ARG_UINT in_cols, block_size, tiles_1, tiles_2, rows_0, rows_1, rows_2;
    ARG_UINT first_tile, tiles, first_row;  // of which tiles; the row of the first one
    ARG_FLOAT factor;                       // of all weights
};

ARGS_END

#endif

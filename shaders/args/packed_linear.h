#ifndef VKQAT_ARGS_PACKED_LINEAR_H
#define VKQAT_ARGS_PACKED_LINEAR_H
#include "args.h"
ARGS_BEGIN

// y = x W^T with W[o, i] = centroids[part, index(o, i)] * scales[o, i / block_size], in the tiled layout of
// runtime/ops/packed_linear.h. The rows of W are those of up to three parts, each padded to whole tiles of 32.
struct PackedLinearArgs {
    ADDRESSES(8)
    ADDRESS x;          // f32 [tokens, in]
    ADDRESS indices;    // u32 [8 tiles, bits, runs, 4]
    ADDRESS scales;     // bf16 [8 tiles, blocks, 4]
    ADDRESS centroids;  // f32 [parts, 2^bits]
    ADDRESS of_blocks;  // with zero points u8 [8 tiles, blocks, 4], with negative scales bf16 as `scales`, or 0
    ADDRESS norm;       // weight of an RMS norm of x, [in] or [parts, in], or 0
    ADDRESS residual;   // f32, as y, or 0; may be y
    ADDRESS y;          // f32 [tokens, y_cols], written from column y_first on
    ARG_UINT tokens, in_cols, y_cols, y_first;
    ARG_UINT tiles_1, tiles_2;        // first tile of parts 1 and 2; the number of tiles where there is no such part
    ARG_UINT rows_0, rows_1, rows_2;  // rows of the parts
    ARG_FLOAT eps;
};

// The stored layout (runtime/formats/packing.h) to the tiled one.
struct TilePackedArgs {
    ADDRESSES(4)
    ADDRESS packed;   // u8 [rows, in * bits / 8]
    ADDRESS scales;   // bf16 [rows, blocks]
    ADDRESS indices;  // as above; tiles from first_tile on are written
    ADDRESS tiled_scales;
    ARG_UINT rows, in_cols, blocks, first_tile;
};

struct DequantizeArgs {
    ADDRESSES(4)
    ADDRESS indices, scales, centroids;  // as above
    ADDRESS weight;                      // [out, in]
    ARG_UINT in_cols, block_size, tiles_1, tiles_2, rows_0, rows_1, rows_2;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_PACKED_LINEAR_H
#define VKQAT_ARGS_PACKED_LINEAR_H
#include "args.h"
ARGS_BEGIN

// y = x W^T with W[o, i] = centroids[index(o, i)] * scales[o, i / block_size]. A row's indices are one stream of bits, the most
// significant bit first.
struct PackedLinearArgs {
    ADDRESSES(5)
    ADDRESS x;          // f32 [tokens, in]
    ADDRESS indices;    // u8 [out, row_bytes]
    ADDRESS scales;     // bf16 [out, in / block_size]
    ADDRESS centroids;  // f32 [2^bits]
    ADDRESS y;          // f32 [tokens, y_cols], written from column y_first on
    ARG_UINT tokens, in_cols, out_rows, row_bytes, block_size, y_cols, y_first;
};

struct DequantizeArgs {
    ADDRESSES(4)
    ADDRESS indices, scales, centroids;  // as above
    ADDRESS weight;                      // [out, in]
    ARG_UINT in_cols, out_rows, row_bytes, block_size;
};

ARGS_END

#endif

#ifndef VKQAT_ARGS_QUANTIZE_H
#define VKQAT_ARGS_QUANTIZE_H
#include "args.h"
ARGS_BEGIN

// Block quantizers (trainer/quantizer.h). A weight [out, in] lies in blocks of block_rows x block_cols, numbered row by row; one
// subgroup works on one part, part_rows x part_cols or what is left of it, of a block.
struct QuantizeArgs {
    ADDRESSES(5)
    ADDRESS weight;      // f32 [out, in]
    ADDRESS centroids;   // f32 [2^bits], only for `nonlinear`
    ADDRESS statistics;  // f32 [blocks, parts, 2] (statistics stage) or [blocks, 2]: scale, mean (apply stage)
    ADDRESS quantized;   // [out, in], absent when only scales are wanted
    ADDRESS scales;      // f32 [out / block_rows, in / block_cols], may be absent
    ARG_UINT out_rows, cols, block_rows, block_cols, part_rows, part_cols;
};

// Joins the parts' statistics of each block.
struct QuantizeScalesArgs {
    ADDRESSES(3)
    ADDRESS partials;    // f32 [blocks, parts, 2]
    ADDRESS statistics;  // f32 [blocks, 2]: scale, mean
    ADDRESS scales;      // f32 [blocks], may be absent
    ARG_UINT blocks, parts, block_elements;
};

// Quantizers that scale a block by its smallest and largest weight, and their gradients. A block is `group` weights of a row; one
// subgroup has one.
struct QuantizeAsymmetricArgs {
    ADDRESSES(2)
    ADDRESS weight;     // f32 [rows, cols]
    ADDRESS quantized;  // [rows, cols]
    ARG_UINT blocks, group;
};

// used = weight + strength (used - weight).
struct BlendWeightsArgs {
    ADDRESSES(3)
    ADDRESS weight;    // f32 [rows, dim]
    ADDRESS used;      // [rows, dim], replaced
    ADDRESS strength;  // f32 [1]
    ARG_UINT rows, dim;
};

struct QuantizerGradientArgs {
    ADDRESSES(2)
    ADDRESS weight;    // f32 [rows, cols]
    ADDRESS gradient;  // f32 [rows, cols], replaced
    ARG_UINT blocks, group;
};

ARGS_END

#endif

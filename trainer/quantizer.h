// Block quantizers of weight matrices with a straight-through gradient (1-Bit Wonder, arXiv 2602.15563).
//
// A weight [out, in] is split into blocks of block_dim_1 rows x block_dim_2 columns. Each has a scale s = max(1e-5, statistic of
// |w|), or 1 for `none`. Then
//   sym_int, b bits   u = clamp(w / (s/G), -G, G), G = 2^(b-1) - 1   q = round(u) s/G     nearest, ties to even
//   ternary           u = clamp(w / s, -1, 1)                        q = round(u) s       the scale is absmean
//   binary            u = w - mean(block)                            q = sign(u) s        the scale is absmean, sign(0) = 0
//   nonlinear         u = w / s                                      q = c[i] s           nearest of 2^b sorted centroids;
//                                                                     (c[i] + c[i+1])/2 belongs to the lower one
// Backward, q is the identity: the gradient of q(W) is the gradient of W, so there is no backward node.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/formats/packing.h"
#include "runtime/graph/graph.h"

namespace vkqat {

enum class QuantizerKind : uint8_t { none, nonlinear, sym_int, ternary, binary };
std::string_view name(QuantizerKind kind);
QuantizerKind parse_quantizer_kind(std::string_view name);  // Error naming the possible ones

struct QuantizerConfig {
    QuantizerKind kind = QuantizerKind::none;
    int bits = 2;              // nonlinear: 1, 2, 3, 4, 8; sym_int: the same without 1; ternary and binary take no notice
    int64_t block_dim_1 = 1;   // rows of a block, 0: all
    int64_t block_dim_2 = 64;  // columns of a block, 0: all
    ScaleStatistic scale = ScaleStatistic::absmean;
    int64_t centroids() const { return kind == QuantizerKind::nonlinear ? int64_t(1) << bits : 0; }
};

// Error if kind, bits and scale do not go together.
void validate(const QuantizerConfig& config);

// The blocks of a weight [out, in].
struct BlockLayout {
    int64_t block_rows = 0, block_cols = 0;  // of a block
    int64_t rows = 0, cols = 0;              // blocks down and across
    int64_t blocks() const { return rows * cols; }
};
// Error naming the layer and both numbers if a dimension is not divided by its block.
BlockLayout block_layout(const QuantizerConfig& config, int64_t out, int64_t in, std::string_view layer);

// One pass from the weight in full precision to q(W) in the precision of the matrix products.
// w f32 [out, in]; q f32, f16 or bf16 [out, in]; centroids f32 [2^bits] for `nonlinear`, otherwise absent; scales, if wanted,
// f32 [out / block_dim_1, in / block_dim_2]. `none` rounds to q's type. Errors name `layer`.
void quantize_weights(Graph& g, Tensor w, Tensor q, const QuantizerConfig& config, Tensor centroids, const std::string& layer,
                      Tensor scales = {});

// Only the scales of the blocks, in full precision: f32 [out / block_dim_1, in / block_dim_2].
void block_scales(Graph& g, Tensor w, Tensor scales, const QuantizerConfig& config, const std::string& layer);

}  // namespace vkqat

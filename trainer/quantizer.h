// Block quantizers of weight matrices with a straight-through gradient (1-Bit Wonder, arXiv 2602.15563).
//
// A weight [out, in] is split into blocks of block_dim_1 rows x block_dim_2 columns. Each has a scale s = max(1e-5, statistic of
// |w|), or 1 for `none`. Then
//   sym_int, b bits   u = clamp(w / (s/G), -G, G), G = 2^(b-1) - 1   q = round(u) s/G     nearest, ties to even
//   ternary           u = clamp(w / s, -1, 1)                        q = round(u) s       the scale is absmean
//   binary            u = w - mean(block)                            q = sign(u) s        the scale is absmean, sign(0) = 0
//   nonlinear         u = w / s                                      q = c[i] s           nearest of 2^b sorted centroids;
//                                                                     (c[i] + c[i+1])/2 belongs to the lower one
//   int_asym, b bits  u = round(w / s) + z, s = (max - min)/(2^b - 1) q = (clamp(u, 0, 2^b - 1) - z) s   halves away from zero;
//                     z = clamp(-round(min / s), 0, 2^b - 1)                                            blocks are of one row
//   nf, 3 or 4 bits   u = w / max(block), or w / |min(block)| below 0  q = nearest of a fixed table, times what u was divided by
//   onebit            -                                                q = sign(w): the vectors beside it are the layer's
// Backward, q is the identity for the first four: the gradient of q(W) is the gradient of W, and there is no backward node. The
// last three (BitDistiller, arXiv 2402.10631; OneBit, arXiv 2402.11295) have gradients of their own: quantizer_gradient().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/formats/packing.h"
#include "runtime/graph/graph.h"

namespace vkqat {

enum class QuantizerKind : uint8_t { none, nonlinear, sym_int, ternary, binary, int_asym, nf, onebit };
std::string_view name(QuantizerKind kind);
QuantizerKind parse_quantizer_kind(std::string_view name);  // Error naming the possible ones

struct QuantizerConfig {
    QuantizerKind kind = QuantizerKind::none;
    int bits = 2;  // nonlinear: 1, 2, 3, 4, 8; sym_int, int_asym: the same without 1; nf: 3, 4; the others take no notice
    int64_t block_dim_1 = 1;                         // rows of a block, 0: all
    int64_t block_dim_2 = 64;                        // columns of a block, 0: all
    ScaleStatistic scale = ScaleStatistic::absmean;  // int_asym, nf and onebit take no notice
    // Whether minimum and maximum of a block, not a statistic, say how it is scaled.
    bool asymmetric() const { return kind == QuantizerKind::int_asym || kind == QuantizerKind::nf; }
    // Whether the gradient of W is another than that of q(W).
    bool has_gradient() const { return asymmetric() || kind == QuantizerKind::onebit; }
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
// f32 [out / block_dim_1, in / block_dim_2] (not for the asymmetric ones and onebit). `none` rounds to q's type. Errors name
// `layer`.
void quantize_weights(Graph& g, Tensor w, Tensor q, const QuantizerConfig& config, Tensor centroids, const std::string& layer,
                      Tensor scales = {});

// used = w + strength (used - w): f32 [1], from 0 to 1. w f32 [out, in]; used f32, f16 or bf16 [out, in].
void blend_weights(Graph& g, Tensor w, Tensor used, Tensor strength, const std::string& layer);

// Only the scales of the blocks, in full precision: f32 [out / block_dim_1, in / block_dim_2].
void block_scales(Graph& g, Tensor w, Tensor scales, const QuantizerConfig& config, const std::string& layer);

// Replaces a gradient of q(W) by that of W, in place: f32 [out, in] both. Only the rounding of a weight is straight-through;
// clamping, and scales by the smallest and largest weight of a block (equal ones share), have their true gradients, as in the
// published code. It is linear in the gradient: once, behind the last micro-step. Nothing to do unless config.has_gradient().
void quantizer_gradient(Graph& g, Tensor w, Tensor gradient, const QuantizerConfig& config, const std::string& layer);

// The table of an asymmetric quantizer, sorted: int_asym 0 .. 2^b - 1, nf its levels from -1 to 1.
std::vector<float> asymmetric_table(const QuantizerConfig& config);

// An asymmetric quantizer's choice for a weight [out, in], in full precision: value = (table[index] - zero) * scale of the block,
// or table[index] * (table[index] < 0 ? negative_scale : scale).
struct AsymmetricIndices {
    std::vector<uint8_t> indices;        // [out, in]
    std::vector<float> scales;           // [out, in / block_dim_2]
    std::vector<uint8_t> zeros;          // the same of int_asym; nf: empty
    std::vector<float> negative_scales;  // the same of nf; int_asym: empty
};
// On the CPU. Error naming the layer: a block that does not divide it, a weight that is not finite, a quantizer of another kind.
AsymmetricIndices asymmetric_indices(std::span<const float> w, int64_t out, int64_t in, const QuantizerConfig& config,
                                     const std::string& layer);
// q(W) in full precision, [out, in]. Errors as above.
std::vector<float> asymmetric_values(std::span<const float> w, int64_t out, int64_t in, const QuantizerConfig& config,
                                     const std::string& layer);

// The levels of `nf` for weights of a block from 0 up (1 for the largest weight) and below 0 (-1 for the smallest), from 0 on.
// 3 bits: BitDistiller's; 4 bits: NF4 of QLoRA (arXiv 2305.14314).
struct NormalFloat {
    std::vector<float> positive, negative;
};
NormalFloat normal_float(int bits);

}  // namespace vkqat

#include "trainer/kmeans.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace vkqat {
namespace {

constexpr int64_t most_bins = int64_t(1) << 18, least_bins = int64_t(1) << 12;  // a power of two
constexpr int64_t bins_per_value = 4;
constexpr int64_t start_points = 4096;
constexpr int64_t chunk_bins = 512;
constexpr int64_t restarts = 4;
constexpr uint32_t max_rounds = 1000;
constexpr double changed_limit = 1e-4;  // of all assignments

}  // namespace

void fit_centroids(Graph& g, Tensor w, const QuantizerConfig& config, Tensor centroids, Tensor second_moment, Tensor scalars,
                   const std::string& layer) {
    if (config.kind != QuantizerKind::nonlinear) fail("{}: quantizer '{}' has no centroids to fit", layer, name(config.kind));
    const BlockLayout blocks = block_layout(config, w.rows(), w.cols(), layer);
    expect(centroids, {config.centroids()}, DType::f32, layer + ": centroids");
    expect(scalars, {4}, DType::u32, layer + ": scalars of the k-means fit");
    if (second_moment) expect(second_moment, w.shape(), DType::f32, layer + ": second moment");

    const uint32_t width = g.capabilities().subgroup_size;
    const int64_t out_rows = w.rows(), cols = w.cols(), values = w.elements(), levels = config.centroids();
    const int64_t bins = std::clamp(int64_t(std::bit_ceil(uint64_t(values * bins_per_value))), least_bins, most_bins);
    const int64_t chunks = bins / chunk_bins, points = std::min(bins, start_points);
    // |u| <= 2^18, the weights sum to their number: the sum of weight * |u| has less than 62 bits.
    const int value_bits = int(std::bit_width(uint64_t(values)));
    const uint32_t fraction_bits = uint32_t(std::clamp(44 - value_bits, 8, 28));
    const auto u32 = [](int64_t n) { return uint32_t(n); };

    Tensor scales = g.tensor({blocks.rows, blocks.cols}, DType::f32, "kmeans.scales");
    Tensor row_sums = g.tensor({out_rows, 3}, DType::f32, "kmeans.row_sums");
    Tensor header = g.tensor({4}, DType::f32, "kmeans.header");
    Tensor counts = g.tensor({bins + 1}, DType::u32, "kmeans.counts");
    Tensor sums = g.tensor({bins + 1}, DType::i64, "kmeans.sums");
    Tensor weights = second_moment ? g.tensor({bins + 1}, DType::i64, "kmeans.weights") : Tensor();
    Tensor chunk_sums = g.tensor({chunks + 1, 3}, DType::i64, "kmeans.chunks");
    Tensor distances = g.tensor({restarts, points}, DType::f32, "kmeans.distances");
    Tensor candidates = g.tensor({restarts, levels + 1}, DType::f32, "kmeans.candidates");

    block_scales(g, w, scales, config, layer);
    g.dispatch(Kernel{"kmeans_sums", {width}}, {in(w), in(scales), in(second_moment), out(row_sums)},
               KmeansSumsArgs{.out_rows = u32(out_rows),
                              .cols = u32(cols),
                              .block_rows = u32(blocks.block_rows),
                              .block_cols = u32(blocks.block_cols)},
               linear_grid(out_rows), "kmeans.sums", {.flops = 3.0 * double(values)});
    g.dispatch(Kernel{"kmeans_header", {width}}, {in(row_sums), in(scalars), out(header)},
               KmeansHeaderArgs{.out_rows = u32(out_rows), .weighted = bool(second_moment), .elements = float(values)}, Grid{},
               "kmeans.header");
    g.dispatch(Kernel{"kmeans_clear", {64}}, {out(counts), out(weights), out(sums)}, KmeansClearArgs{.bins = u32(bins)},
               linear_grid((bins + 64) / 64), "kmeans.clear");
    g.dispatch(Kernel{"kmeans_histogram", {width}},
               {in(w), in(scales), in(second_moment), in(header), inout(counts), inout(weights), inout(sums)},
               KmeansHistogramArgs{.out_rows = u32(out_rows),
                                   .cols = u32(cols),
                                   .block_rows = u32(blocks.block_rows),
                                   .block_cols = u32(blocks.block_cols),
                                   .bins = u32(bins),
                                   .fraction_bits = fraction_bits},
               linear_grid(out_rows), "kmeans.histogram", {.flops = 10.0 * double(values)});
    for (uint32_t stage = 0; stage < 3; stage++)
        g.dispatch(Kernel{"kmeans_prefix", {width, stage}},
                   {inout(counts), inout(weights), inout(sums), stage ? inout(chunk_sums) : out(chunk_sums)},
                   KmeansPrefixArgs{.bins = u32(bins), .chunk_bins = u32(chunk_bins), .chunk_count = u32(chunks)},
                   linear_grid(stage == 1 ? 1 : (chunks + width - 1) / width), "kmeans.prefix");
    g.dispatch(Kernel{"kmeans_lloyd", {width}},
               {in(counts), in(weights), in(sums), in(header), in(scalars), in(centroids), out(distances), out(candidates)},
               KmeansLloydArgs{.bins = u32(bins),
                               .points = u32(points),
                               .levels = u32(levels),
                               .max_rounds = max_rounds,
                               .count_limit = float(changed_limit * double(values)),
                               .sum_unit = std::ldexp(1.0f, -int(fraction_bits)),
                               .weight_unit = std::ldexp(1.0f, -20)},
               linear_grid(restarts), "kmeans.lloyd");
    g.dispatch(Kernel{"kmeans_select", {width}}, {in(candidates), in(header), inout(centroids)},
               KmeansSelectArgs{.levels = u32(levels), .restarts = u32(restarts)}, Grid{}, "kmeans.select");
}

}  // namespace vkqat

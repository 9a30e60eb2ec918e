// The 1-D k-means (Lloyd-Max) fit of a layer's centroids to its scaled weights, on the GPU (1-Bit Wonder, arXiv 2602.15563).
//
// The weights are read twice: once for mean |x|, x = w / s, once for a histogram of count, weight and sum in up to 2^18 bins that
// are fine where values are frequent (u / (1 + |u|), u = x / mean|x|). Prefix sums over the bins make each Lloyd iteration a few
// loads per centroid, over all the data at once, where the published code takes samples of growing size. Sums are integers:
// the result does not depend on the order of the additions. Four k-means++ starts run side by side; the best one is taken.
#pragma once

#include <string>

#include "shaders/args/kmeans.h"
#include "trainer/quantizer.h"

namespace vkqat {

// Replaces `centroids`, f32 [2^bits], sorted. w f32 [out, in], its blocks and scales as in `config`.
// second_moment: AdamW's second moment, f32 [out, in], for `fischer_kmeans`: the weight of a value is v/(1 - beta2^t) divided by
// its mean (at least 1e-12); absent for `kmeans`.
// scalars: KmeansScalars as u32 [4], host-visible memory that is read when the graph runs.
// A value that is not finite, or weights that are all 0, leave the centroids as they are.
void fit_centroids(Graph& g, Tensor w, const QuantizerConfig& config, Tensor centroids, Tensor second_moment, Tensor scalars,
                   const std::string& layer);

}  // namespace vkqat

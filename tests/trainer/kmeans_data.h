// What the tests of the k-means fit share.
#pragma once

#include <vector>

#include "tests/support/gpu.h"
#include "trainer/kmeans.h"

namespace vkqat::test {

struct KmeansCase {
    int64_t out = 1, in = 0;
    std::vector<float> w;
    std::vector<float> second_moment = {};  // empty: unweighted
    QuantizerConfig config;
    std::vector<float> start;  // what the centroids hold before
    bool warm_start = false;
    uint32_t seed = 1;
    float correction = 1;
};

inline std::vector<float> fit(const KmeansCase& c) {
    Graph g(device());
    Tensors data(g);
    Tensor w = data.floats({c.out, c.in}, c.w, "w");
    Tensor moment = c.second_moment.empty() ? Tensor() : data.floats({c.out, c.in}, c.second_moment, "v");
    Tensor centroids = data.floats({c.config.centroids()}, c.start, "centroids");
    KmeansScalars scalars{c.correction, c.seed, c.warm_start, 0};
    std::vector<int32_t> words(4);
    std::memcpy(words.data(), &scalars, sizeof(scalars));
    fit_centroids(g, w, c.config, centroids, moment, data.ints({4}, words, "scalars", DType::u32), "layer");
    Executable(g, "kmeans").run();
    return data.read(centroids);
}

// Mean squared distance to the nearest centroid.
inline double squared_error(const std::vector<float>& x, const std::vector<float>& centroids,
                            const std::vector<float>& weights = {}) {
    double total = 0, weight = 0;
    for (size_t i = 0; i < x.size(); i++) {
        double least = std::numeric_limits<double>::infinity();
        for (float c : centroids) least = std::min(least, (double(x[i]) - c) * (double(x[i]) - c));
        double f = weights.empty() ? 1 : weights[i];
        total += f * least;
        weight += f;
    }
    return total / weight;
}

}  // namespace vkqat::test

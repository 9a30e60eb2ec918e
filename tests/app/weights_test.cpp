// What a model's weights are, and areas in proportion to them.
#include "app/core/weights.h"

#include <gtest/gtest.h>

#include <numeric>

#include "app/core/treemap.h"
#include "runtime/model/model_directory.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

TEST(Treemap, CellsFillTheRoomInProportionAndDoNotOverlap) {
    const std::vector<double> figures{6, 6, 4, 3, 2, 2, 1, 0, -1};
    const auto cells = treemap(figures, {10, 20, 60, 40});
    double area = 0;
    for (size_t i = 0; i < cells.size(); i++) {
        const TreemapCell& c = cells[i];
        EXPECT_NEAR(double(c.width) * double(c.height), figures[i] > 0 ? figures[i] * 100 : 0, 0.1) << i;
        area += double(c.width) * double(c.height);
        if (figures[i] <= 0) continue;
        EXPECT_GE(c.x, 10 - 1e-3f);
        EXPECT_GE(c.y, 20 - 1e-3f);
        EXPECT_LE(c.x + c.width, 70 + 1e-3f);
        EXPECT_LE(c.y + c.height, 60 + 1e-3f);
        EXPECT_LT(std::max(c.width / c.height, c.height / c.width), 4) << i;  // the published example stays below 3
        for (size_t k = 0; k < i; k++) {
            const TreemapCell& d = cells[k];
            const bool apart = c.x + c.width <= d.x + 1e-3f || d.x + d.width <= c.x + 1e-3f || c.y + c.height <= d.y + 1e-3f ||
                               d.y + d.height <= c.y + 1e-3f;
            EXPECT_TRUE(apart) << i << " " << k;
        }
    }
    EXPECT_NEAR(area, 2400, 0.1);
    EXPECT_EQ(treemap({}, {0, 0, 1, 1}).size(), 0u);
    EXPECT_EQ(treemap({1, 2}, {0, 0, 0, 5})[0].width, 0);
}

TEST(WeightParts, OfADenseModelAreItsTensors) {
    const auto stories = test::data_folder() / "stories260K";
    if (!std::filesystem::exists(stories / "config.json")) GTEST_SKIP() << "no " << stories << ": set VKQAT_DATA";
    const std::vector<WeightPart> parts = weight_parts(stories);
    int64_t weights = 0;
    uint64_t bytes = 0;
    for (const WeightPart& p : parts) weights += p.weights, bytes += p.bytes;
    EXPECT_EQ(weights, read_llama_config(stories).parameters());
    EXPECT_EQ(bytes, uint64_t(weights) * 4);  // fp32
    EXPECT_EQ(parts.front().name, "embedding");
    EXPECT_EQ(parts[1].tensor, "model.layers.0.self_attn.q_proj");
    EXPECT_EQ(parts[1].bits, 32);
    const WeightSpread h = weight_histogram(stories, parts[1].tensor);
    EXPECT_EQ(h.edges.size(), h.shares.size() + 1);
    const double shown = std::accumulate(h.shares.begin(), h.shares.end(), 0.0);
    EXPECT_GT(shown, 0.98);  // little lies beyond four root mean squares
    EXPECT_LE(shown, 1 + 1e-9);
    EXPECT_TRUE(h.centroids.empty());
    EXPECT_THROW(weight_histogram(stories, "model.norm"), std::exception);
}

TEST(WeightSpread, OfSignsIsTheShareOfEach) {
    const std::vector<std::byte> signs{std::byte(0b00000111), std::byte(0)};  // three of sixteen are -1
    const TensorView view{.bytes = signs};
    const WeightSpread s = spread(OnebitLinear{.out = 2, .in = 8, .weight = &view});
    EXPECT_EQ(s.centroids, (std::vector<double>{-1, 1}));
    EXPECT_EQ(s.shares, (std::vector<double>{3.0 / 16, 13.0 / 16}));
    EXPECT_EQ(s.edges, (std::vector<double>{-2, 0, 2}));
}

TEST(ReferenceWeightParts, OfAPackedModelHaveItsBitsAndCentroids) {
    const auto model = test::reference_folder() / "tiny-kmeans-2bit";
    if (!std::filesystem::exists(model / "config.json")) GTEST_SKIP() << "no " << model;
    const std::vector<WeightPart> parts = weight_parts(model);
    for (const WeightPart& p : parts) {
        if (p.tensor.empty()) continue;
        const WeightSpread h = weight_histogram(model, p.tensor);
        EXPECT_EQ(double(h.bits), p.bits) << p.tensor;
        EXPECT_LE(h.centroids.size(), size_t(1) << h.bits);
        EXPECT_NEAR(std::accumulate(h.shares.begin(), h.shares.end(), 0.0), 1, 1e-9);
        EXPECT_TRUE(std::is_sorted(h.edges.begin(), h.edges.end()));
    }
}

}  // namespace
}  // namespace vkqat

#include "trainer/clipping.h"

#include <filesystem>

#include "runtime/formats/safetensors.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

struct Found {
    std::vector<float> gram, bounds, error;
};
Found search(const std::vector<float>& w, int64_t out, int64_t in, const std::vector<float>& x, const QuantizerConfig& config) {
    Graph g(test::device());
    test::Tensors data(g);
    const int64_t group = config.block_dim_2 ? config.block_dim_2 : in, groups = in / group;
    Tensor gram = data.poisoned({groups, group, group}, "gram");
    Tensor bounds = data.poisoned({out, groups, 2}, "bounds"), error = data.poisoned({out, groups, 2}, "error");
    gram_blocks(g, data.floats({int64_t(x.size()) / in, in}, x, "x"), gram);
    search_clipping(g, data.floats({out, in}, w, "w"), gram, bounds, error, config, "layer");
    Executable(g, "search").run();
    return {data.read(gram), data.read(bounds), data.read(error)};
}

std::vector<float> quantize(const std::vector<float>& w, int64_t out, int64_t in, const QuantizerConfig& config) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor q = data.poisoned({out, in}, "q");
    quantize_weights(g, data.floats({out, in}, w, "w"), q, config, {}, "layer");
    Executable(g, "quantize").run();
    return data.read(q);
}

// The squared error of each block's contribution to the outputs, over all tokens.
std::vector<double> block_errors(const std::vector<float>& w, const std::vector<float>& q, int64_t in, int64_t group,
                                 const std::vector<float>& x) {
    std::vector<double> errors(w.size() / size_t(group));
    const auto cols = size_t(in), size = size_t(group);
    for (size_t block = 0; block < errors.size(); block++)
        for (size_t t = 0; t < x.size() / cols; t++) {
            double sum = 0;
            for (size_t i = 0; i < size; i++)
                sum += double(x[t * cols + block * size % cols + i]) * (double(q[block * size + i]) - w[block * size + i]);
            errors[block] += sum * sum;
        }
    return errors;
}

TEST(Clipping, BoundsGiveTheErrorThatIsSaidAndNoWorseThanNone) {
    for (QuantizerConfig config : {QuantizerConfig{.kind = QuantizerKind::int_asym, .bits = 2, .block_dim_2 = 16},
                                   QuantizerConfig{.kind = QuantizerKind::nf, .bits = 3, .block_dim_2 = 30},
                                   QuantizerConfig{.kind = QuantizerKind::int_asym, .bits = 3, .block_dim_2 = 0}}) {
        const int64_t out = 5, in = config.block_dim_2 == 30 ? 60 : 48, group = config.block_dim_2 ? config.block_dim_2 : in;
        SCOPED_TRACE(testing::Message() << name(config.kind) << " in groups of " << group);
        std::vector<float> w = test::normal(size_t(out * in), 1), x = test::normal(size_t(37 * in), 2), clipped = w;
        for (size_t i = 0; i < w.size(); i += 11) w[i] *= 4;
        clipped = w;
        Found found = search(w, out, in, x, config);
        clip_weights(clipped, found.bounds, group);
        const auto before = block_errors(w, quantize(w, out, in, config), in, group, x);
        const auto after = block_errors(w, quantize(clipped, out, in, config), in, group, x);
        double total_before = 0, total_after = 0;
        for (size_t b = 0; b < before.size(); b++) {
            EXPECT_NEAR(found.error[2 * b], before[b], 1e-4 * before[b]);
            EXPECT_NEAR(found.error[2 * b + 1], after[b], 1e-4 * before[b]);
            EXPECT_LE(after[b], before[b] * (1 + 1e-5));
            total_before += before[b];
            total_after += after[b];
        }
        EXPECT_LT(total_after, 0.9 * total_before);
    }
}

TEST(Clipping, RefusesWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor w = data.floats({2, 8}, test::normal(16, 1), "w"), gram = data.poisoned({2, 4, 4}, "gram");
    Tensor bounds = data.poisoned({2, 2, 2}, "bounds"), error = data.poisoned({2, 2, 2}, "error");
    const QuantizerConfig config{.kind = QuantizerKind::int_asym, .bits = 2, .block_dim_2 = 4};
    EXPECT_THROW(gram_blocks(g, w, data.poisoned({3, 3, 3}, "gram")), Error);
    EXPECT_THROW(search_clipping(g, w, gram, bounds, error, {.kind = QuantizerKind::sym_int}, "layer"), Error);
    EXPECT_THROW(search_clipping(g, w, gram, bounds, data.poisoned({2, 2}, "error"), config, "layer"), Error);
    EXPECT_NO_THROW(search_clipping(g, w, gram, bounds, error, config, "layer"));
}

TEST(ReferenceClipping, BoundsOfTheSearchOverCalibrationTokens) {
    auto path = test::reference_folder() / "bitdistiller.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (VKQAT_REFERENCE)";
    SafetensorsFile file(path);
    const TensorView &w = file.get("clip.w"), &x = file.get("clip.x");
    const std::vector<float> weight = read_floats(w), inputs = read_floats(x);
    for (const auto& [prefix, config] :
         {std::pair<std::string, QuantizerConfig>{"clip.int2", {.kind = QuantizerKind::int_asym, .bits = 2}},
          {"clip.int3", {.kind = QuantizerKind::int_asym, .bits = 3}},
          {"clip.nf33", {.kind = QuantizerKind::nf, .bits = 3}}}) {
        SCOPED_TRACE(prefix);
        const TensorView& largest = file.get(prefix + ".max");
        QuantizerConfig c = config;
        c.block_dim_2 = w.shape[1] / largest.shape[1];
        const Found found = search(weight, w.shape[0], w.shape[1], inputs, c);
        const std::vector<float> high = read_floats(largest), low = read_floats(file.get(prefix + ".min"));
        std::vector<float> expected;
        for (size_t i = 0; i < high.size(); i++) expected.insert(expected.end(), {low[i], high[i]});
        ASSERT_EQ(found.bounds.size(), expected.size());
        std::vector<float> theirs = weight;
        clip_weights(theirs, expected, c.block_dim_2);
        const auto errors = block_errors(weight, quantize(theirs, w.shape[0], w.shape[1], c), w.shape[1], c.block_dim_2, inputs);
        size_t others = 0;
        for (size_t b = 0; b < high.size(); b++) {
            const bool same = std::abs(found.bounds[2 * b] - low[b]) <= 1e-6f * std::abs(low[b]) &&
                              std::abs(found.bounds[2 * b + 1] - high[b]) <= 1e-6f * std::abs(high[b]);
            others += !same;
            // Another choice must be as good: two candidates whose errors differ by less than sums in fp32 do.
            EXPECT_LE(found.error[2 * b + 1], errors[b] * (1 + 1e-5)) << b;
        }
        EXPECT_LE(others, high.size() / 50) << "of " << high.size();
    }
}

}  // namespace
}  // namespace vkqat

// Quantizers with a gradient of their own, against their definition in double.
#include <algorithm>
#include <cmath>

#include "tests/support/gpu.h"
#include "trainer/quantizer.h"

namespace vkqat {
namespace {

struct Reference {
    std::vector<double> q, gradient;
};

double round_away(double x) { return x < 0 ? -std::floor(0.5 - x) : std::floor(x + 0.5); }

// The level of |u| between 0 and 1 in `levels`, sorted by magnitude. Halves go outward for weights from 0 up.
double nearest_level(double u, const std::vector<float>& levels) {
    size_t k = 0;
    while (k + 1 < levels.size()) {
        double boundary = (double(levels[k]) + levels[k + 1]) / 2;
        if (u < 0 ? !(u < boundary) : !(u >= boundary)) break;
        k++;
    }
    return levels[k];
}

Reference reference(const std::vector<float>& w, const std::vector<float>& dq, const QuantizerConfig& config, size_t group) {
    Reference r{std::vector<double>(w.size()), std::vector<double>(w.size())};
    const double largest = double((1 << config.bits) - 1);
    for (size_t first = 0; first < w.size(); first += group) {
        auto [low, high] = std::minmax_element(w.begin() + long(first), w.begin() + long(first + group));
        const double mn = *low, mx = *high;
        const float step = std::max(*high - *low, 1e-5f) / float(largest);
        const double zero = std::clamp(-std::nearbyint(double(*low / step)), 0.0, largest);
        const NormalFloat levels = config.kind == QuantizerKind::nf ? normal_float(config.bits) : NormalFloat{};
        double by_min = 0, by_max = 0, at_min = 0, at_max = 0;
        for (size_t i = first; i < first + group; i++) {
            at_min += w[i] == *low;
            at_max += w[i] == *high;
            if (config.kind == QuantizerKind::int_asym) {
                const double u = w[i] / step, v = round_away(u) + zero, c = std::clamp(v, 0.0, largest);
                r.q[i] = (c - zero) * step;
                r.gradient[i] = c == v ? dq[i] : 0;
                by_max += dq[i] * (c - zero - (c == v ? u : 0)) / largest;
            } else {
                const double scale = std::abs(w[i] < 0 ? mn : mx), u = scale == 0 ? 0 : w[i] / scale;
                const double level = nearest_level(u, w[i] < 0 ? levels.negative : levels.positive);
                r.q[i] = level * scale;
                r.gradient[i] = dq[i];
                (w[i] < 0 ? by_min : by_max) += dq[i] * (level - u);
            }
        }
        if (config.kind == QuantizerKind::int_asym) {
            by_min = *high - *low >= 1e-5f ? -by_max : 0;
            by_max = *high - *low >= 1e-5f ? by_max : 0;
        } else {
            by_min *= (mn > 0) - (mn < 0);
            by_max *= (mx > 0) - (mx < 0);
        }
        for (size_t i = first; i < first + group; i++)
            r.gradient[i] += (w[i] == *low ? by_min / at_min : 0) + (w[i] == *high ? by_max / at_max : 0);
    }
    return r;
}

void check(const std::vector<float>& w, int64_t out, int64_t in, const QuantizerConfig& config) {
    SCOPED_TRACE(testing::Message() << name(config.kind) << " " << config.bits << " bits, " << out << " x " << in << " in "
                                    << config.block_dim_2);
    Graph g(test::device());
    test::Tensors data(g);
    std::vector<float> dq = test::normal(w.size(), 5);
    Tensor weight = data.floats({out, in}, w, "w"), q = data.poisoned({out, in}, "q");
    Tensor half = data.poisoned({out, in}, "half", DType::bf16), gradient = data.floats({out, in}, dq, "gradient");
    quantize_weights(g, weight, q, config, {}, "layer");
    quantize_weights(g, weight, half, config, {}, "layer");
    quantizer_gradient(g, weight, gradient, config, "layer");
    Executable(g, "quantize").run();
    Reference r = reference(w, dq, config, size_t(config.block_dim_2 ? config.block_dim_2 : in));
    EXPECT_LT(test::relative_error(data.read(q), r.q), 1e-6);
    EXPECT_LT(test::relative_error(data.read(half), r.q), 4e-3);
    // Sums of up to 1000 terms.
    EXPECT_LT(test::relative_error(data.read(gradient), r.gradient), 1e-5);
}

TEST(QuantizerGradient, AsymmetricQuantizersMatchTheirDefinition) {
    for (QuantizerConfig config :
         {QuantizerConfig{.kind = QuantizerKind::int_asym, .bits = 2},
          QuantizerConfig{.kind = QuantizerKind::int_asym, .bits = 3},
          QuantizerConfig{.kind = QuantizerKind::int_asym, .bits = 4}, QuantizerConfig{.kind = QuantizerKind::nf, .bits = 3},
          QuantizerConfig{.kind = QuantizerKind::nf, .bits = 4}})
        for (auto [in, group] : {std::pair<int64_t, int64_t>{128, 64}, {172, 0}, {35, 7}, {1000, 0}}) {
            config.block_dim_2 = group;
            check(test::normal(size_t(3 * in), 1, 0.02f), 3, in, config);
        }
}

TEST(QuantizerGradient, BlocksOfOneSignOfZerosAndWithTies) {
    for (QuantizerKind kind : {QuantizerKind::int_asym, QuantizerKind::nf}) {
        const QuantizerConfig config{.kind = kind, .bits = 3, .block_dim_2 = 16};
        check(test::uniform(32, 1, 0.1f, 1), 2, 16, config);
        check(test::uniform(32, 2, -1, -0.1f), 2, 16, config);
        std::vector<float> tied = test::normal(32, 3);
        for (size_t i : {2, 5, 9}) tied[i] = 4;
        for (size_t i : {1, 17, 30}) tied[i] = -4;
        check(tied, 2, 16, config);
        std::vector<float> flat(32, 0.f);
        flat[20] = 1e-6f;
        check(flat, 2, 16, config);
    }
}

TEST(QuantizerGradient, OnebitIsASignWithASmoothGradient) {
    for (auto [out, in] : {std::pair<int64_t, int64_t>{3, 64}, {5, 35}, {2, 1000}}) {
        const QuantizerConfig config{.kind = QuantizerKind::onebit};
        std::vector<float> w = test::normal(size_t(out * in), 1), dq = test::normal(w.size(), 2);
        w[3] = 0;
        w[4] = 60;
        Graph g(test::device());
        test::Tensors data(g);
        Tensor weight = data.floats({out, in}, w, "w"), q = data.poisoned({out, in}, "q", DType::bf16);
        Tensor gradient = data.floats({out, in}, dq, "gradient");
        quantize_weights(g, weight, q, config, {}, "layer");
        quantizer_gradient(g, weight, gradient, config, "layer");
        Executable(g, "quantize").run();
        std::vector<double> expected;
        auto found = data.read(q);
        for (size_t i = 0; i < w.size(); i++) {
            EXPECT_EQ(found[i], (w[i] > 0) - (w[i] < 0));
            expected.push_back(dq[i] * (1.001 - std::tanh(double(w[i])) * std::tanh(double(w[i]))));
        }
        // tanh of fp32 has an error of some 1e-6 where 1 - tanh^2 is small.
        EXPECT_LT(test::relative_error(data.read(gradient), expected), 1e-5);
    }
}

TEST(QuantizerGradient, ThoseThatAreTheIdentityAddNoNode) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor w = data.floats({2, 64}, test::normal(128, 1), "w"), gradient = data.floats({2, 64}, test::normal(128, 2), "gradient");
    quantizer_gradient(g, w, gradient, {.kind = QuantizerKind::ternary}, "layer");
    EXPECT_TRUE(g.nodes().empty());
}

TEST(QuantizerGradient, RefusesWhatDoesNotFit) {
    EXPECT_THROW(validate({.kind = QuantizerKind::nf, .bits = 2}), Error);
    EXPECT_THROW(validate({.kind = QuantizerKind::int_asym, .bits = 1}), Error);
    EXPECT_THROW(validate({.kind = QuantizerKind::int_asym, .bits = 2, .block_dim_1 = 0}), Error);
    Graph g(test::device());
    test::Tensors data(g);
    Tensor w = data.floats({2, 64}, test::normal(128, 1), "w"), q = data.poisoned({2, 64}, "q"), s = data.poisoned({2, 1}, "s");
    EXPECT_THROW(quantize_weights(g, w, q, {.kind = QuantizerKind::int_asym, .bits = 2}, {}, "layer", s), Error);
    EXPECT_THROW(quantizer_gradient(g, w, s, {.kind = QuantizerKind::int_asym, .bits = 2}, "layer"), Error);
    EXPECT_THROW(quantizer_gradient(g, w, q, {.kind = QuantizerKind::int_asym, .bits = 2, .block_dim_2 = 48}, "layer"), Error);
}

}  // namespace
}  // namespace vkqat

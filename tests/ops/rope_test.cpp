#include "runtime/ops/rope.h"

#include <numbers>

#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

std::vector<double> reference(const std::vector<float>& x, int64_t cols, int64_t heads, const std::vector<float>& frequencies,
                              int64_t seq_len, int64_t start, double sign = 1) {
    std::vector<double> y(x.begin(), x.end());
    auto half = int64_t(frequencies.size());
    for (int64_t t = 0; t < int64_t(x.size()) / cols; t++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t i = 0; i < half; i++) {
                double angle = sign * double(float(start + t % seq_len) * frequencies[size_t(i)]);
                auto a = size_t(t * cols + h * 2 * half + i), b = a + size_t(half);
                y[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
                y[b] = x[b] * std::cos(angle) + x[a] * std::sin(angle);
            }
    return y;
}

struct Built {
    std::vector<float> frequencies;
    Tensor table;
};
Built make_table(test::Tensors& data, int64_t head_dim, int64_t positions) {
    auto frequencies = rope_frequencies(head_dim, 10000);
    return {frequencies, data.floats({positions, head_dim}, rope_table(frequencies, positions), "rope_table")};
}

// Products and sums of fp32 with a table exact to fp32.
constexpr double tolerance = 3e-7;

TEST(Rope, MatchesDoublePrecisionForwardAndBackward) {
    for (int64_t tokens : {1, 3, 129})
        for (int64_t head_dim : {2, 8, 32, 128})
            for (int64_t heads : {1, 3})
                for (int64_t copied : {int64_t(0), int64_t(7), head_dim}) {
                    SCOPED_TRACE(testing::Message()
                                 << tokens << " tokens, " << heads << " heads of " << head_dim << ", copied " << copied);
                    int64_t cols = heads * head_dim + copied;
                    auto size = size_t(tokens * cols);
                    Graph g(test::device(), Graph::Mode::training);
                    test::Tensors data(g);
                    auto [frequencies, table] = make_table(data, head_dim, tokens + 2);
                    Tensor x = data.floats({tokens, cols}, test::normal(size, 1), "x");
                    Tensor dy = data.floats({tokens, cols}, test::normal(size, 2), "dy");
                    Tensor dx = data.parameter_gradient(x);
                    Tensor y = rope(g, x, table, heads);
                    g.keep(y);
                    g.backward(y, dy);
                    Executable executable(g, "test");
                    executable.run();
                    EXPECT_LT(test::relative_error(test::read_floats(executable, y),
                                                   reference(data.read(x), cols, heads, frequencies, tokens, 0)),
                              tolerance);
                    EXPECT_LT(
                        test::relative_error(data.read(dx), reference(data.read(dy), cols, heads, frequencies, tokens, 0, -1)),
                        tolerance);
                }
}

TEST(Rope, RoundsItsResultToTheTypeAskedFor) {
    for (auto [type, bound] : {std::pair{DType::f16, 1.0 / 2048}, {DType::bf16, 1.0 / 512}}) {  // f16: as the device rounds
        Graph g(test::device(), Graph::Mode::training);
        test::Tensors data(g);
        auto [frequencies, table] = make_table(data, 16, 37);
        Tensor x = data.floats({37, 72}, test::normal(37 * 72, 1), "x");
        Tensor dy = data.floats({37, 72}, test::normal(37 * 72, 2), "dy"), dx = data.parameter_gradient(x);
        Tensor y = rope(g, x, table, 3, {}, type);
        ASSERT_EQ(y.dtype(), type);
        g.keep(y);
        g.backward(y, dy);
        Executable executable(g, "test");
        executable.run();
        EXPECT_LT(test::relative_error(test::read_floats(executable, y), reference(data.read(x), 72, 3, frequencies, 37, 0)),
                  bound);
        EXPECT_LT(test::relative_error(data.read(dx), reference(data.read(dy), 72, 3, frequencies, 37, 0, -1)), tolerance);
    }
}

TEST(Rope, ReplaysFromAnotherStart) {
    Graph g(test::device());
    test::Tensors data(g);
    auto [frequencies, table] = make_table(data, 8, 64);
    Tensor x = data.floats({12, 24}, test::normal(288, 1), "x");
    Buffer buffer = g.device().allocate(4, "start");
    Tensor start = g.external(buffer, 0, {1}, DType::u32, "start");
    Tensor y = rope(g, x, table, 2, {.seq_len = 4, .start = start});
    g.keep(y);
    Executable executable(g, "test");
    for (uint32_t first : {0u, 1u, 60u}) {
        g.device().upload(buffer, 0, std::as_bytes(std::span(&first, 1)));
        executable.run();
        EXPECT_LT(test::relative_error(test::read_floats(executable, y), reference(data.read(x), 24, 2, frequencies, 4, first)),
                  tolerance)
            << first;
    }
    // Beyond the table nothing is read: the last position is taken.
    uint32_t beyond = 4000000000u, last = 63;
    g.device().upload(buffer, 0, std::as_bytes(std::span(&beyond, 1)));
    executable.run();
    auto clamped = test::read_floats(executable, y);
    g.device().upload(buffer, 0, std::as_bytes(std::span(&last, 1)));
    executable.run();
    auto at_last = test::read_floats(executable, y);
    for (size_t i = 0; i < 24; i++) EXPECT_EQ(clamped[i], at_last[i]);
}

TEST(Rope, PositionsBeginAgainInEachSequence) {
    Graph g(test::device());
    test::Tensors data(g);
    auto [frequencies, table] = make_table(data, 32, 43);
    Tensor x = data.floats({129, 70}, test::normal(129 * 70, 1), "x");
    Tensor y = rope(g, x, table, 2, {.seq_len = 43});
    g.keep(y);
    Executable executable(g, "test");
    executable.run();
    EXPECT_LT(test::relative_error(test::read_floats(executable, y), reference(data.read(x), 70, 2, frequencies, 43, 0)),
              tolerance);
}

TEST(Rope, GradientsInTheMiddleOfAGraph) {
    test::check_gradients({{"x", {6, 21}, test::normal(126, 1)}},
                          [](Graph& g, test::Tensors& data, const std::vector<Tensor>& x) {
                              return rope(g, x[0], make_table(data, 8, 3).table, 2, {.seq_len = 3});
                          });
}

TEST(Rope, TableIsExactAtLargePositions) {
    auto frequencies = rope_frequencies(128, 500000);
    ASSERT_EQ(frequencies.size(), 64u);
    EXPECT_EQ(frequencies[0], 1.f);
    EXPECT_EQ(frequencies[32], float(1 / std::sqrt(500000.0)));
    auto table = rope_table(frequencies, 131072);
    for (int64_t p : {0, 1, 8191, 131071})
        for (size_t i : {0, 1, 31, 63}) {
            // The angle is the fp32 product; its cosine and sine are right to half a unit of fp32.
            double angle = double(float(p) * frequencies[i]);
            EXPECT_NEAR(table[size_t(p) * 128 + i], std::cos(angle), 3.1e-8);
            EXPECT_NEAR(table[size_t(p) * 128 + 64 + i], std::sin(angle), 3.1e-8);
        }
}

TEST(Rope, StretchesLongWavelengthsOnly) {
    // Llama 3.2 1B: theta 500000, head_dim 64, factor 32. Piecewise, as published: short wavelengths are kept, long ones
    // divided, and those between 8192/4 and 8192/1 positions interpolated.
    RopeStretch stretch{.factor = 32};
    auto plain = rope_frequencies(64, 500000), stretched = rope_frequencies(64, 500000, stretch);
    int kept = 0, divided = 0, blended = 0;
    for (size_t i = 0; i < plain.size(); i++) {
        double f = std::pow(500000.0, -double(i) / 32), wavelength = 2 * std::numbers::pi / f;
        if (wavelength < 2048) {
            kept++;
            EXPECT_EQ(stretched[i], plain[i]);
        } else if (wavelength > 8192) {
            divided++;
            EXPECT_EQ(stretched[i], plain[i] / 32);
        } else {
            blended++;
            double smooth = (8192 / wavelength - 1) / 3;
            EXPECT_NEAR(stretched[i], (1 - smooth) * f / 32 + smooth * f, 1e-7 * f);
        }
    }
    EXPECT_GT(kept, 0);
    EXPECT_GT(divided, 0);
    EXPECT_GT(blended, 0);
}

TEST(Rope, RefusesWhatDoesNotFit) {
    EXPECT_THROW(rope_frequencies(7, 10000), Error);
    EXPECT_THROW(rope_frequencies(0, 10000), Error);
    EXPECT_THROW(rope_frequencies(8, 0), Error);
    EXPECT_THROW(rope_frequencies(8, 10000, RopeStretch{.low_freq_factor = 4, .high_freq_factor = 4}), Error);
    EXPECT_THROW(rope_table(rope_frequencies(8, 10000), 0), Error);
    Graph g(test::device());
    test::Tensors data(g);
    Tensor table = make_table(data, 8, 4).table;
    Tensor x = data.floats({4, 16}, test::normal(64, 1), "x"), long_x = data.floats({8, 16}, test::normal(128, 1), "long");
    EXPECT_THROW(rope(g, x, table, 3), Error);
    EXPECT_THROW(rope(g, x, table, 0), Error);
    EXPECT_THROW(rope(g, x, table, 2, {.seq_len = 3}), Error);
    EXPECT_THROW(rope(g, long_x, table, 2), Error);
    EXPECT_THROW(rope(g, x, data.floats({4, 7}, test::normal(28, 1), "odd"), 2), Error);
    EXPECT_THROW(rope(g, x, table, 2, {.start = data.ints({2}, {0, 0}, "start", DType::u32)}), Error);
    EXPECT_THROW(rope(g, x, {}, 2), Error);
}

}  // namespace
}  // namespace vkqat

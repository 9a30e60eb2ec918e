#include "runtime/ops/block_sums.h"

#include <cmath>

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

std::vector<double> sums_of(const std::vector<double>& x, size_t size) {
    std::vector<double> sums(x.size() / size, 0.0);
    for (size_t i = 0; i < x.size(); i++) sums[i / size] += x[i];
    return sums;
}

TEST(BlockSums, OfAnySize) {
    for (int64_t size : {1, 4, 12, 64, 100})
        for (int64_t tokens : {1, 3}) {
            const std::vector<float> x = test::normal(size_t(tokens * size * 5), 1);
            Graph g(test::device());
            test::Tensors data(g);
            Tensor y = block_sums(g, data.floats({tokens, size * 5}, x, "x"), size, "sums");
            g.keep(y);
            Executable executable(g, "test");
            executable.run();
            EXPECT_LE(test::relative_error(test::read_floats(executable, y), sums_of({x.begin(), x.end()}, size_t(size))), 1e-6);
        }
}

TEST(BlockSums, OffsetsOfFewTokensWithTheirNormAndResidual) {
    const float eps = 1e-5f;
    for (auto [rows, in, size] : {std::array<int64_t, 3>{5, 64, 64}, {70, 320, 64}, {130, 48, 4}, {9, 1200, 400}, {64, 4, 4}})
        for (int64_t tokens : {1, 2, 9})
            for (bool norm : {false, true}) {
                SCOPED_TRACE(testing::Message() << rows << " x " << in << ", blocks of " << size << ", " << tokens << " tokens");
                const int64_t blocks = in / size;
                const std::vector<float> x = test::normal(size_t(tokens * in), 1, 3),
                                         weight = test::uniform(size_t(in), 2, 0.5f, 2);
                const std::vector<float> offsets = test::normal(size_t(rows * blocks), 3),
                                         residual = test::normal(size_t(tokens * rows), 4);
                Graph g(test::device());
                test::Tensors data(g);
                ASSERT_TRUE(can_block_offsets(g.capabilities(), in, blocks));
                Tensor y = block_offsets(g, data.floats({tokens, in}, x, "x"), data.floats({rows, blocks}, offsets, "offsets"),
                                         {.norm = norm ? data.floats({in}, weight, "norm") : Tensor(),
                                          .eps = eps,
                                          .residual = data.floats({tokens, rows}, residual, "residual")},
                                         "offsets");
                g.keep(y);
                Executable executable(g, "test");
                executable.run();
                std::vector<double> expected;
                for (int64_t t = 0; t < tokens; t++) {
                    std::vector<double> row(x.begin() + t * in, x.begin() + (t + 1) * in);
                    double squares = 0;
                    for (double v : row) squares += v * v;
                    for (int64_t i = 0; i < in; i++)
                        if (norm) row[size_t(i)] *= double(weight[size_t(i)]) / std::sqrt(squares / double(in) + double(eps));
                    const std::vector<double> sums = sums_of(row, size_t(size));
                    for (int64_t o = 0; o < rows; o++) {
                        double sum = residual[size_t(t * rows + o)];
                        for (int64_t b = 0; b < blocks; b++) sum += double(offsets[size_t(o * blocks + b)]) * sums[size_t(b)];
                        expected.push_back(sum);
                    }
                }
                EXPECT_LE(test::relative_error(test::read_floats(executable, y), expected), 1e-5);
            }
    Graph g(test::device());
    test::Tensors data(g);
    Tensor x = data.floats({1, 24}, test::normal(24, 1), "x");
    EXPECT_THROW(block_offsets(g, x, data.floats({3, 12}, test::normal(36, 1), "offsets"), {}, "offsets"), Error);  // blocks of 2
    EXPECT_THROW(block_offsets(g, x, data.floats({3, 6}, test::normal(18, 1), "offsets"), {.swiglu = true}, "offsets"), Error);
    EXPECT_THROW(block_sums(g, x, 5, "sums"), Error);
}

}  // namespace
}  // namespace vkqat

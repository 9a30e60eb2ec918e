#include "runtime/ops/block_sums.h"

#include <cmath>

#include "tests/support/packed.h"

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

TEST(BlockSums, OffsetsAreZeroPointsAboutTheTablesMiddleTimesScales) {
    const int64_t in = 192, block = 32, blocks = in / block;
    const std::vector<int64_t> rows{5, 70, 33};
    Graph g(test::device());
    test::Tensors data(g);
    std::vector<PackedWeight> parts;
    std::vector<uint8_t> zeros;
    std::vector<double> expected;
    for (size_t part = 0; part < rows.size(); part++) {
        parts.push_back(test::random_packed(rows[part], in, 2, block, uint32_t(part)));
        const size_t before = zeros.size();
        zeros.resize(before + size_t((rows[part] + 31) / 32 * 32 * blocks));
        for (int64_t row = 0; row < rows[part]; row++)
            for (int64_t b = 0; b < blocks; b++) {
                const auto zero = uint8_t((row * 31 + b * 7 + 3) % 256);
                zeros[before + size_t((row / 4 * blocks + b) * 4 + row % 4)] = zero;
                expected.push_back((1.5 - zero) * double(bf16_to_f32(parts[part].scales[size_t(row * blocks + b)])));
            }
    }
    const PackedLayer layer = test::tiled(g, data, parts), other = test::tiled(g, data, {parts[1]});
    const PackedAsymmetry a{.zeros = data.bytes({int64_t(zeros.size())}, zeros, "zeros"), .center = 1.5f};
    const std::vector<uint8_t> twos(96 * 6, 2);
    const PackedAsymmetry b{.zeros = data.bytes({96 * 6}, twos, "zeros"), .center = 0.5f};
    for (uint16_t s : parts[1].scales) expected.push_back(-1.5 * double(bf16_to_f32(s)));
    Tensor y = block_offsets(g, {layer, other}, {a, b}, "offsets");
    g.keep(y);
    EXPECT_THROW(block_offsets(g, {layer}, {{}}, "offsets"), Error);
    EXPECT_THROW(block_offsets(g, {layer}, {b}, "offsets"), Error);
    EXPECT_THROW(block_offsets(g, {layer}, {a, b}, "offsets"), Error);
    Executable executable(g, "test");
    executable.run();
    EXPECT_LE(test::relative_error(test::read_floats(executable, y), expected), 1e-7);
}

TEST(BlockSums, ErrorOfBlocksThatDoNotDivideARow) {
    Graph g(test::device());
    test::Tensors data(g);
    EXPECT_THROW(block_sums(g, data.floats({1, 24}, test::normal(24, 1), "x"), 5, "sums"), Error);
}

}  // namespace
}  // namespace vkqat

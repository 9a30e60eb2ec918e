#include "runtime/ops/packed_linear.h"

#include <algorithm>

#include "runtime/formats/packing.h"
#include "tests/support/gpu.h"

namespace vkqat {
namespace {

constexpr PackedLinearVariant variants[] = {PackedLinearVariant::automatic, PackedLinearVariant::rows,
                                            PackedLinearVariant::subgroup};

// Random indices, scales and sorted centroids.
PackedWeight random_weight(int64_t out, int64_t in, int bits, int64_t block_size, uint32_t seed) {
    PackedWeight w{.out = out, .in = in, .block_size = block_size, .bits = bits};
    std::mt19937 random(seed);
    std::vector<uint8_t> indices(size_t(out * in));
    for (uint8_t& i : indices) i = uint8_t(random() & ((1u << bits) - 1));
    w.packed = pack_indices(indices, in, bits);
    for (float s : test::uniform(size_t(out * in / block_size), seed + 1, 0.01f, 2)) w.scales.push_back(f32_to_bf16(s));
    w.centroids = test::normal(size_t(1) << bits, seed + 2);
    std::sort(w.centroids.begin(), w.centroids.end());
    return w;
}

PackedLayer upload(test::Tensors& data, const PackedWeight& w) {
    std::vector<float> scales;
    for (uint16_t s : w.scales) scales.push_back(bf16_to_f32(s));
    return {.indices = data.bytes({w.out, w.in * w.bits / 8}, w.packed, "indices"),
            .scales = data.floats({w.out, w.in / w.block_size}, scales, "scales", DType::bf16),
            .centroids = data.floats({int64_t(w.centroids.size())}, w.centroids, "centroids"),
            .bits = w.bits,
            .block_size = w.block_size,
            .out = w.out,
            .in = w.in};
}

std::vector<float> run(const PackedWeight& w, const std::vector<float>& x, PackedLinearVariant variant) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor y = packed_linear(g, data.floats({int64_t(x.size()) / w.in, w.in}, x, "x"), upload(data, w), "y", variant);
    g.keep(y);
    Executable executable(g, "packed_linear");
    executable.run();
    return test::read_floats(executable, y);
}

// The largest error of an output as a share of sum |w x|, which bounds what rounding can do: fp32 sums of n terms in at least
// 8 strands err by less than (n / 8 + 8) 2^-24 in the worst case and by far less on average; 1e-6 holds for all sizes here.
double worst_error(const PackedWeight& w, const std::vector<float>& x, const std::vector<float>& y) {
    std::vector<float> values = dequantize(w);
    size_t tokens = x.size() / size_t(w.in), out = size_t(w.out), in = size_t(w.in);
    if (y.size() != tokens * out) return INFINITY;
    double worst = 0;
    for (size_t t = 0; t < tokens; t++)
        for (size_t o = 0; o < out; o++) {
            double sum = 0, magnitude = 1e-30;
            for (size_t i = 0; i < in; i++) {
                double term = double(x[t * in + i]) * values[o * in + i];
                sum += term;
                magnitude += std::abs(term);
            }
            double error = std::abs(y[t * out + o] - sum) / magnitude;
            if (!(error <= worst)) worst = error;
        }
    return worst;
}

TEST(PackedLinear, AgreesWithTheUnpackedProductForEveryWidthBlockShapeAndVariant) {
    struct Case {
        int64_t out, in, block;
    };
    const Case cases[] = {{1, 64, 64},     {33, 256, 64}, {7, 192, 192}, {64, 128, 32}, {5, 384, 128},  {9, 40, 4},
                          {3, 1000, 1000}, {17, 24, 8},   {70, 8, 8},    {2, 520, 104}, {130, 2048, 64}};
    for (const Case& c : cases)
        for (int bits : {1, 2, 3, 4, 8})
            for (PackedLinearVariant variant : variants) {
                SCOPED_TRACE(fmt::format("[{}, {}] {} bits, blocks of {}, variant {}", c.out, c.in, bits, c.block, int(variant)));
                PackedWeight w = random_weight(c.out, c.in, bits, c.block, uint32_t(c.out * 8 + bits));
                std::vector<float> x = test::normal(size_t(3 * c.in), 4);
                EXPECT_LE(worst_error(w, x, run(w, x, variant)), 1e-6);
            }
}

TEST(PackedLinear, AnyNumberOfTokens) {
    for (int64_t tokens : {1, 2, 3, 4, 5, 7, 8, 9, 17, 32})
        for (int bits : {1, 3, 4})
            for (PackedLinearVariant variant : variants) {
                SCOPED_TRACE(fmt::format("{} tokens, {} bits, variant {}", tokens, bits, int(variant)));
                PackedWeight w = random_weight(45, 96, bits, tokens % 2 ? 32 : 24, 5);
                std::vector<float> x = test::normal(size_t(tokens * 96), 6);
                EXPECT_LE(worst_error(w, x, run(w, x, variant)), 1e-6);
            }
}

TEST(PackedLinear, RowsThatAreWholeBytesButNoMultipleOfEightIndices) {
    for (auto [bits, in] : {std::pair<int, int64_t>{2, 4}, {2, 36}, {4, 2}, {4, 50}, {8, 1}, {8, 13}})
        for (PackedLinearVariant variant : variants) {
            PackedWeight w = random_weight(11, in, bits, in, 7);
            std::vector<float> x = test::normal(size_t(2 * in), 8);
            EXPECT_LE(worst_error(w, x, run(w, x, variant)), 1e-6) << bits << " bits, " << in;
        }
}

TEST(PackedLinear, WritesColumnsOfALargerTensorAndNoOthers) {
    PackedWeight a = random_weight(20, 64, 2, 32, 1), b = random_weight(9, 64, 4, 64, 2);
    std::vector<float> x = test::normal(3 * 64, 3);
    Graph g(test::device());
    test::Tensors data(g);
    Tensor input = data.floats({3, 64}, x, "x"), y = data.poisoned({3, 32}, "y");
    packed_linear_into(g, input, upload(data, a), y, 1, "a");
    packed_linear_into(g, input, upload(data, b), y, 21, "b");
    EXPECT_THROW(packed_linear_into(g, input, upload(data, b), y, 24, "b"), Error);
    EXPECT_THROW(packed_linear_into(g, input, upload(data, b), y, -1, "b"), Error);
    Executable(g, "packed_linear").run();
    std::vector<float> found = data.read(y), left, right;
    for (size_t t = 0; t < 3; t++) {
        const float* row = &found[t * 32];
        for (size_t column : {0, 30, 31}) EXPECT_TRUE(std::isnan(row[column]));
        left.insert(left.end(), row + 1, row + 21);
        right.insert(right.end(), row + 21, row + 30);
    }
    EXPECT_LE(worst_error(a, x, left), 1e-6);
    EXPECT_LE(worst_error(b, x, right), 1e-6);
}

TEST(PackedLinear, DequantizesExactly) {
    for (int bits : {1, 2, 3, 4, 8})
        for (DType type : {DType::f32, DType::f16, DType::bf16}) {
            PackedWeight w = random_weight(13, 120, bits, 40, 9);
            Graph g(test::device());
            test::Tensors data(g);
            Tensor weight = dequantize(g, upload(data, w), type);
            g.keep(weight);
            Executable executable(g, "dequantize");
            executable.run();
            std::vector<float> found = test::read_floats(executable, weight), expected = dequantize(w);
            for (size_t i = 0; i < expected.size(); i++)
                ASSERT_EQ(found[i], type == DType::f32   ? expected[i]
                                    : type == DType::f16 ? f16_to_f32(f32_to_f16(expected[i]))
                                                         : bf16_to_f32(f32_to_bf16(expected[i])));
        }
}

TEST(PackedLinear, ErrorsOnWrongShapesAndOnTraining) {
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    PackedLayer w = upload(data, random_weight(8, 64, 2, 32, 1));
    Tensor x = data.floats({2, 64}, test::normal(128, 1), "x");
    EXPECT_NO_THROW(packed_linear(g, x, w));
    EXPECT_THROW(packed_linear(g, data.floats({2, 32}, test::normal(64, 1), "x"), w), Error);
    PackedLayer wrong = w;
    wrong.bits = 5;
    EXPECT_THROW(packed_linear(g, x, wrong), Error);
    wrong = w;
    wrong.block_size = 48;
    EXPECT_THROW(packed_linear(g, x, wrong), Error);
    wrong = w;
    wrong.bits = 4;
    EXPECT_THROW(packed_linear(g, x, wrong), Error);
    wrong = w;
    wrong.out = 9;
    EXPECT_THROW(packed_linear(g, x, wrong), Error);
    data.parameter_gradient(x);
    EXPECT_THROW(packed_linear(g, x, w), Error);
}

}  // namespace
}  // namespace vkqat

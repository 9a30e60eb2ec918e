#include "trainer/quantizer.h"

#include <algorithm>
#include <cmath>

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

// The definition in double, except that scale and step are rounded to float where the published code does so.
std::vector<double> reference(const std::vector<float>& w, int64_t out, int64_t in, const QuantizerConfig& config,
                              const std::vector<float>& centroids, std::vector<double>* scales = nullptr) {
    BlockLayout blocks = block_layout(config, out, in, "w");
    std::vector<double> result(w.size());
    for (int64_t b = 0; b < blocks.blocks(); b++) {
        int64_t row0 = b / blocks.cols * blocks.block_rows, col0 = b % blocks.cols * blocks.block_cols;
        auto each = [&](auto&& work) {
            for (int64_t r = row0; r < row0 + blocks.block_rows; r++)
                for (int64_t c = col0; c < col0 + blocks.block_cols; c++) work(size_t(r * in + c));
        };
        double largest = 0, sum = 0, squares = 0, magnitudes = 0, n = double(blocks.block_rows * blocks.block_cols);
        each([&](size_t i) {
            largest = std::max(largest, std::abs(double(w[i])));
            sum += w[i];
            magnitudes += std::abs(w[i]);
            squares += double(w[i]) * w[i];
        });
        double statistic = config.scale == ScaleStatistic::absmax    ? largest
                           : config.scale == ScaleStatistic::absmean ? magnitudes / n
                                                                     : std::sqrt(squares / n);
        float s =
            config.kind == QuantizerKind::none || config.scale == ScaleStatistic::none ? 1.0f : float(std::max(1e-5, statistic));
        if (scales) scales->push_back(s);
        float grid = float((1 << (config.bits - 1)) - 1), step = s / grid;
        each([&](size_t i) {
            switch (config.kind) {
                default: result[i] = w[i]; break;
                case QuantizerKind::sym_int: result[i] = std::nearbyint(std::clamp(w[i] / step, -grid, grid)) * step; break;
                case QuantizerKind::ternary: result[i] = std::nearbyint(std::clamp(w[i] / s, -1.0f, 1.0f)) * s; break;
                case QuantizerKind::binary: {
                    double u = w[i] - sum / n;
                    result[i] = (u > 0) - (u < 0);
                    result[i] *= s;
                    break;
                }
                case QuantizerKind::nonlinear: {
                    size_t k = 0;
                    while (k + 1 < centroids.size() && w[i] / s > (centroids[k] + centroids[k + 1]) / 2) k++;
                    result[i] = double(centroids[k]) * s;
                }
            }
        });
    }
    return result;
}

struct Quantized {
    std::vector<float> values, scales;
};
Quantized quantize(const std::vector<float>& w, int64_t out, int64_t in, const QuantizerConfig& config,
                   const std::vector<float>& centroids, DType type = DType::f32) {
    Graph g(test::device());
    test::Tensors data(g);
    BlockLayout blocks = block_layout(config, out, in, "w");
    Tensor weight = data.floats({out, in}, w, "w"), q = data.poisoned({out, in}, "q", type);
    Tensor scales = data.poisoned({blocks.rows, blocks.cols}, "scales");
    Tensor only_scales = data.poisoned({blocks.rows, blocks.cols}, "only scales");
    Tensor table = centroids.empty() ? Tensor() : data.floats({int64_t(centroids.size())}, centroids, "centroids");
    quantize_weights(g, weight, q, config, table, "layer", scales);
    block_scales(g, weight, only_scales, config, "layer");
    Executable(g, "quantize").run();
    EXPECT_EQ(data.read(scales), data.read(only_scales));
    return {data.read(q), data.read(scales)};
}

std::vector<float> table(int bits, float range) {
    std::vector<float> c = test::uniform(size_t(1) << bits, 7, -range, range);
    std::sort(c.begin(), c.end());
    return c;
}

// Elements may fall on the other side of a boundary when the block's statistic differs in its last bit (the order of a sum):
// few may, and the rest must agree to the last bits.
void expect_equal(const std::vector<float>& found, const std::vector<double>& expected, double tolerance, int64_t allowed) {
    ASSERT_EQ(found.size(), expected.size());
    int64_t different = 0;
    for (size_t i = 0; i < found.size(); i++)
        different += !(std::abs(found[i] - expected[i]) <= tolerance * std::abs(expected[i]) + 1e-12);
    EXPECT_LE(different, allowed) << "of " << found.size();
}

TEST(Quantizer, AgreesWithTheDefinitionForEveryKindBlockAndOddShape) {
    struct Case {
        int64_t out, in, rows, cols;
    };
    const Case cases[] = {{3, 64, 1, 64},   {5, 192, 1, 64}, {7, 100, 1, 0},    {24, 96, 8, 32},
                          {6, 35, 2, 7},    {33, 65, 0, 0},  {9, 5, 3, 1},      {1, 1, 1, 1},
                          {4, 40000, 1, 0}, {300, 70, 0, 0}, {130, 256, 65, 0}, {257, 64, 0, 32}};
    const QuantizerConfig quantizers[] = {{QuantizerKind::none},
                                          {QuantizerKind::sym_int, 2, 0, 0, ScaleStatistic::absmax},
                                          {QuantizerKind::sym_int, 8, 0, 0, ScaleStatistic::rms},
                                          {QuantizerKind::sym_int, 3, 0, 0, ScaleStatistic::none},
                                          {QuantizerKind::ternary, 2, 0, 0, ScaleStatistic::absmean},
                                          {QuantizerKind::binary, 1, 0, 0, ScaleStatistic::absmean},
                                          {QuantizerKind::nonlinear, 1, 0, 0, ScaleStatistic::absmean},
                                          {QuantizerKind::nonlinear, 3, 0, 0, ScaleStatistic::absmax},
                                          {QuantizerKind::nonlinear, 4, 0, 0, ScaleStatistic::none},
                                          {QuantizerKind::nonlinear, 8, 0, 0, ScaleStatistic::rms}};
    for (const Case& c : cases) {
        std::vector<float> w = test::normal(size_t(c.out * c.in), uint32_t(c.out + c.in), 0.7f);
        for (QuantizerConfig q : quantizers) {
            q.block_dim_1 = c.rows;
            q.block_dim_2 = c.cols;
            SCOPED_TRACE(fmt::format("{} {} bits {} [{}, {}] in {} x {}", name(q.kind), q.bits, name(q.scale), c.out, c.in,
                                     c.rows, c.cols));
            std::vector<float> centroids = q.kind == QuantizerKind::nonlinear ? table(q.bits, 1.5f) : std::vector<float>();
            std::vector<double> scales;
            std::vector<double> expected = reference(w, c.out, c.in, q, centroids, &scales);
            Quantized found = quantize(w, c.out, c.in, q, centroids);
            expect_equal(found.values, expected, 1e-6, c.out * c.in / 10000);
            expect_equal(found.scales, scales, 1e-6, 0);
        }
    }
}

TEST(Quantizer, TiesGoToTheEvenLevelAndZeroHasNoSign) {
    // bf16 weights at 4 bits (G = 7): the half of the block's largest one is exactly half-way between two levels, and with the
    // step rounded to float its quotient is just below, at, or just above the half, as the division's last bit has it.
    std::vector<float> w;
    std::vector<float> values = test::normal(64 * 64, 3);
    for (int block = 0; block < 64; block++) {
        float largest = bf16_to_f32(f32_to_bf16(2.0f + std::abs(values[size_t(block) * 64])));
        for (int i = 0; i < 64; i++) {
            float part = float((i % 14) + 1) / 14.0f;
            w.push_back(i == 0 ? largest : (i % 2 ? 1 : -1) * bf16_to_f32(f32_to_bf16(largest * part)));
        }
    }
    for (int bits : {2, 3, 4, 8}) {
        QuantizerConfig q{QuantizerKind::sym_int, bits, 1, 64, ScaleStatistic::absmax};
        expect_equal(quantize(w, 64, 64, q, {}).values, reference(w, 64, 64, q, {}), 1e-7, 0);
    }
    // mean 0, one weight is 0: sign(0) = 0. mean |w| = 1: half-way between 0 and 1 goes to 0.
    QuantizerConfig binary{QuantizerKind::binary, 1, 1, 5, ScaleStatistic::absmean};
    EXPECT_EQ(quantize({0.0f, 1.5f, -1.5f, 1.0f, -1.0f}, 1, 5, binary, {}).values, (std::vector<float>{0, 1, -1, 1, -1}));
    QuantizerConfig ternary{QuantizerKind::ternary, 2, 1, 4, ScaleStatistic::absmean};
    EXPECT_EQ(quantize({0.5f, -0.5f, 1.5f, -1.5f}, 1, 4, ternary, {}).values, (std::vector<float>{0, 0, 1, -1}));
    // The boundary between two centroids belongs to the lower one.
    for (int bits : {1, 2, 3, 4, 8}) {
        std::vector<float> centroids, expected;
        for (int i = 0; i < 1 << bits; i++) centroids.push_back(float(i) * 0.5f);
        std::vector<float> middles;
        for (size_t i = 0; i + 1 < centroids.size(); i++) middles.push_back(centroids[i] + 0.25f);
        expected.assign(centroids.begin(), centroids.end() - 1);
        QuantizerConfig nonlinear{QuantizerKind::nonlinear, bits, 1, 0, ScaleStatistic::none};
        EXPECT_EQ(quantize(middles, 1, int64_t(middles.size()), nonlinear, centroids).values, expected);
    }
}

TEST(Quantizer, WritesThePrecisionOfTheProducts) {
    std::vector<float> w = test::normal(40 * 128, 11);
    for (DType type : {DType::f16, DType::bf16})
        for (QuantizerKind kind : {QuantizerKind::none, QuantizerKind::sym_int}) {
            QuantizerConfig q{kind, 4, 1, 64, ScaleStatistic::absmax};
            std::vector<float> exact = quantize(w, 40, 128, q, {}).values, found = quantize(w, 40, 128, q, {}, type).values;
            for (size_t i = 0; i < w.size(); i++)
                ASSERT_EQ(found[i], type == DType::bf16 ? bf16_to_f32(f32_to_bf16(exact[i])) : f16_to_f32(f32_to_f16(exact[i])));
        }
}

TEST(Quantizer, BlocksOfZerosStayFinite) {
    for (QuantizerKind kind : {QuantizerKind::sym_int, QuantizerKind::ternary, QuantizerKind::binary}) {
        QuantizerConfig q{kind, 4, 1, 64, ScaleStatistic::absmean};
        Quantized found = quantize(std::vector<float>(128, 0), 2, 64, q, {});
        for (float v : found.values) EXPECT_EQ(v, 0);
        for (float s : found.scales) EXPECT_FLOAT_EQ(s, 1e-5f);
    }
}

std::string error_of(const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(Quantizer, ErrorsNameTheLayerAndTheNumbers) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor w = data.floats({6, 100}, test::normal(600, 1), "w"), q = data.poisoned({6, 100}, "q");
    auto attempt = [&](QuantizerConfig c, Tensor centroids = {}) {
        return error_of([&] { quantize_weights(g, w, q, c, centroids, "layers.3.wq"); });
    };
    std::string columns = attempt({QuantizerKind::sym_int, 4, 1, 64, ScaleStatistic::absmax});
    for (const char* part : {"layers.3.wq", "100", "64", "block_dim_2"})
        EXPECT_NE(columns.find(part), std::string::npos) << columns;
    std::string rows = attempt({QuantizerKind::sym_int, 4, 4, 0, ScaleStatistic::absmax});
    for (const char* part : {"layers.3.wq", "6", "4", "block_dim_1"}) EXPECT_NE(rows.find(part), std::string::npos) << rows;
    EXPECT_NE(attempt({QuantizerKind::ternary, 2, 1, 0, ScaleStatistic::absmax}).find("absmean"), std::string::npos);
    EXPECT_NE(attempt({QuantizerKind::binary, 2, 1, 0, ScaleStatistic::none}).find("absmean"), std::string::npos);
    EXPECT_NE(attempt({QuantizerKind::sym_int, 5, 1, 0, ScaleStatistic::absmax}).find("5 bits"), std::string::npos);
    EXPECT_NE(attempt({QuantizerKind::sym_int, 1, 1, 0, ScaleStatistic::absmax}), "");
    EXPECT_NE(attempt({QuantizerKind::sym_int, 4, -1, 0, ScaleStatistic::absmax}), "");
    EXPECT_NE(attempt({QuantizerKind::nonlinear, 2, 1, 0, ScaleStatistic::absmax}).find("centroids"), std::string::npos);
    EXPECT_NE(error_of([] { parse_quantizer_kind("sym-int"); }).find("sym_int"), std::string::npos);
    for (const char* text : {"none", "nonlinear", "sym_int", "ternary", "binary"})
        EXPECT_EQ(name(parse_quantizer_kind(text)), text);
}

}  // namespace
}  // namespace vkqat

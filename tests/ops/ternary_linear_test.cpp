#include "runtime/ops/ternary_linear.h"

#include "runtime/vulkan/shader_table.h"
#include "tests/support/packed.h"

namespace vkqat {
namespace {

PackedWeight random_ternary(int64_t out, int64_t in, uint32_t seed) {
    PackedWeight w{.out = out, .in = in, .block_size = in, .bits = 2};
    std::mt19937 random(seed);
    std::vector<uint8_t> indices(size_t(out * in));
    for (uint8_t& i : indices) i = uint8_t(random() % 3);
    w.packed = pack_indices(indices, in, 2);
    for (float s : test::uniform(size_t(out), seed + 1, 0.5f, 2)) w.scales.push_back(f32_to_bf16(s));
    const float scale = 0.013f * float(seed % 7 + 1);
    w.centroids = {-scale, 0, scale, scale};
    return w;
}

TernaryLayer on_device(Graph& g, test::Tensors& data, const std::vector<PackedWeight>& parts, bool five) {
    TernaryLayer layer{.five_to_a_byte = five, .in = parts[0].in};
    std::vector<float> centroids, scales;
    for (const PackedWeight& w : parts) {
        layer.rows.push_back(w.out);
        centroids.insert(centroids.end(), w.centroids.begin(), w.centroids.end());
        for (uint16_t s : w.scales) scales.push_back(bf16_to_f32(s));
    }
    layer.indices = data.poisoned({ternary_words(layer.rows, layer.in, five)}, "indices", DType::u32);
    layer.scales = data.floats({layer.out()}, scales, "scales", DType::bf16);
    layer.centroids = data.floats({int64_t(parts.size()), 4}, centroids, "centroids");
    int64_t tile = 0;
    for (const PackedWeight& w : parts) {
        const std::vector<uint8_t> stored = five ? pack_ternary(unpack_indices(w.packed, w.in, 2), w.in) : w.packed;
        tile_ternary(g, data.bytes({w.out, int64_t(stored.size()) / w.out}, stored, "packed"), layer, tile);
        tile += (w.out + 31) / 32;
    }
    return layer;
}

struct Expected {
    std::vector<double> y, slack;  // [tokens, out]; what inputs half-way between two integers may change
};

// In double, from inputs behind their norms. Inputs whose integer depends on the last bits of the norm's factor have two.
Expected reference(const std::vector<PackedWeight>& parts, const std::vector<double>& x) {
    const size_t in = size_t(parts[0].in), tokens = x.size() / in;
    std::vector<std::vector<float>> values;
    for (const PackedWeight& w : parts) values.push_back(dequantize(w));
    Expected e;
    for (size_t t = 0; t < tokens; t++) {
        double top = 1e-5;
        for (size_t i = 0; i < in; i++) top = std::max(top, std::abs(x[t * in + i]));
        const double a = 127 / top;
        std::vector<double> q(in), doubt(in, 0.0);
        for (size_t i = 0; i < in; i++) {
            const double u = x[t * in + i] * a;
            q[i] = std::nearbyint(u) / a;
            if (std::abs(std::abs(u - std::floor(u)) - 0.5) < 1e-4) doubt[i] = 1 / a;
        }
        for (const std::vector<float>& v : values)
            for (size_t o = 0; o < v.size() / in; o++) {
                double sum = 0, slack = 0, magnitude = 0;
                for (size_t i = 0; i < in; i++) {
                    sum += q[i] * double(v[o * in + i]);
                    magnitude += std::abs(q[i] * double(v[o * in + i]));
                    slack += doubt[i] * std::abs(double(v[o * in + i]));
                }
                e.y.push_back(sum);
                e.slack.push_back(slack + 1e-6 * magnitude + 1e-30);  // products with s / a in fp32, a from fp32 norms
            }
    }
    return e;
}

void expect_within(const std::vector<float>& found, const Expected& e) {
    ASSERT_EQ(found.size(), e.y.size());
    for (size_t i = 0; i < found.size(); i++) ASSERT_NEAR(found[i], e.y[i], e.slack[i]) << "output " << i;
}

std::vector<double> doubles(const std::vector<float>& x) { return {x.begin(), x.end()}; }

std::vector<float> run(const std::vector<PackedWeight>& parts, bool five, const std::vector<float>& x,
                       const TernaryVariant& variant) {
    Graph g(test::device());
    test::Tensors data(g);
    const TernaryLayer layer = on_device(g, data, parts, five);
    Tensor y = ternary_linear(g, data.floats({int64_t(x.size()) / layer.in, layer.in}, x, "x"), layer, "y", {}, {}, variant);
    g.keep(y);
    Executable executable(g, "ternary_linear");
    executable.run();
    return test::read_floats(executable, y);
}

TEST(TernaryLinear, AgreesWithTheUnpackedProductForEveryShapeAndVariant) {
    for (auto [out, in] : {std::pair<int64_t, int64_t>{1, 4}, {31, 80}, {130, 132}, {64, 256}, {7, 2080}})
        for (bool five : {false, true})
            for (int dot : {0, 1})
                for (int quantized : {0, 1}) {
                    if ((!dot && quantized) || (dot && !find_shader("ternary_matvec_2_dot"))) continue;
                    SCOPED_TRACE(fmt::format("[{}, {}] five {}, dot {}, quantized {}", out, in, five, dot, quantized));
                    const std::vector<PackedWeight> parts{random_ternary(out, in, uint32_t(in))};
                    const std::vector<float> x = test::normal(size_t(in), 3);
                    expect_within(run(parts, five, x, {.dot = dot, .quantized = quantized}), reference(parts, doubles(x)));
                }
}

TEST(TernaryLinear, AnyNumberOfTokensAndParts) {
    const std::vector<PackedWeight> parts{random_ternary(64, 324, 1), random_ternary(17, 324, 2), random_ternary(33, 324, 3)};
    for (size_t tokens : {1, 2, 3, 5, 8, 9, 16})
        for (bool five : {false, true})
            for (int quantized : {0, 1}) {
                if (!quantized && tokens > 3) continue;  // every workgroup would make the integers of all tokens
                SCOPED_TRACE(fmt::format("{} tokens, five {}, quantized {}", tokens, five, quantized));
                const std::vector<float> x = test::normal(tokens * 324, 6);
                expect_within(run(parts, five, x, {.quantized = quantized}), reference(parts, doubles(x)));
            }
}

TEST(TernaryLinear, EveryShapeOfWorkgroup) {
    const std::vector<PackedWeight> parts{random_ternary(100, 3300, 1)};
    const std::vector<float> x = test::normal(3300, 6);
    const Expected e = reference(parts, doubles(x));
    for (bool five : {false, true})
        for (const MatvecTuning& tuning : {MatvecTuning{.width = 64, .depth = 1, .copies = 1, .slab = 400},
                                           MatvecTuning{.width = 128, .tiles = 2, .depth = 2, .copies = 2},
                                           MatvecTuning{.width = 256, .tiles = 3, .depth = 2, .copies = 4, .slab = 3000},
                                           MatvecTuning{.width = 512, .tiles = 1, .depth = 1, .copies = 8}})
            for (int quantized : {0, 1}) {
                SCOPED_TRACE(
                    fmt::format("five {}, width {}, {} tiles, quantized {}", five, tuning.width, tuning.tiles, quantized));
                expect_within(run(parts, five, x, {.quantized = quantized, .tuning = tuning}), e);
            }
}

TEST(TernaryLinear, ActivationsOfAnyMagnitude) {
    const std::vector<PackedWeight> parts{random_ternary(40, 256, 5)};
    for (float scale : {0.0f, 1e-30f, 1e-7f, 1.0f, 1e30f})
        for (bool five : {false, true}) {
            std::vector<float> x = test::normal(256, 6);
            for (float& v : x) v *= scale;
            expect_within(run(parts, five, x, {}), reference(parts, doubles(x)));
        }
}

TEST(TernaryLinear, FoldsInBothNormsTheResidualAndTheGatedActivation) {
    const int64_t in = 448, ffn = 70;
    const float eps = 1e-5f, second_eps = 1e-3f;
    const std::vector<PackedWeight> parts{random_ternary(ffn, in, 1), random_ternary(ffn, in, 2)};
    for (int64_t tokens : {1, 3})
        for (bool five : {false, true})
            for (int quantized : {0, 1})
                for (bool second : {false, true})
                    if (quantized || tokens == 1)
                        for (DType type : {second == five ? DType::f32 : DType::bf16}) {
                            SCOPED_TRACE(fmt::format("{} tokens, five {}, quantized {}, second {}, {}", tokens, five, quantized,
                                                     second, name(type)));
                            const std::vector<float> x = test::normal(size_t(tokens * in), 3, 4);
                            const std::vector<float> residual = test::normal(size_t(tokens * 2 * ffn), 5);
                            std::vector<float> norm = test::uniform(size_t(in), 4, 0.5f, 1.5f);
                            if (type == DType::bf16)
                                for (float& n : norm) n = bf16_to_f32(f32_to_bf16(n));
                            Graph g(test::device());
                            test::Tensors data(g);
                            const TernaryLayer layer = on_device(g, data, parts, five);
                            const TernaryInput front{.second_norm = second, .second_eps = second_eps};
                            const TernaryVariant variant{.quantized = quantized};
                            Tensor input = data.floats({tokens, in}, x, "x"), weight = data.floats({in}, norm, "norm", type);
                            Tensor gated = ternary_linear(g, input, layer, "gate_up",
                                                          {.norm = weight, .eps = eps, .swiglu = true}, front, variant);
                            Tensor sum =
                                ternary_linear(g, input, layer, "o", {.residual = data.floats({tokens, 2 * ffn}, residual, "r")},
                                               front, variant);
                            g.keep(gated);
                            g.keep(sum);
                            Executable executable(g, "fused");
                            executable.run();

                            auto normed = [&](bool first) {
                                std::vector<double> y;
                                for (int64_t t = 0; t < tokens; t++) {
                                    auto pass = [&](std::vector<double>& v, double e) {
                                        double squares = 0;
                                        for (double u : v) squares += u * u;
                                        for (double& u : v) u /= std::sqrt(squares / double(in) + e);
                                    };
                                    std::vector<double> v(x.begin() + t * in, x.begin() + (t + 1) * in);
                                    if (first) {
                                        pass(v, eps);
                                        for (int64_t i = 0; i < in; i++) v[size_t(i)] *= norm[size_t(i)];
                                    }
                                    if (second) pass(v, second_eps);
                                    y.insert(y.end(), v.begin(), v.end());
                                }
                                return y;
                            };
                            Expected q = reference(parts, normed(false));
                            for (size_t i = 0; i < q.y.size(); i++) q.y[i] += residual[i], q.slack[i] += 1e-6;
                            expect_within(test::read_floats(executable, sum), q);
                            const Expected p = reference(parts, normed(true));
                            const std::vector<float> found = test::read_floats(executable, gated);
                            for (int64_t t = 0; t < tokens; t++)
                                for (int64_t i = 0; i < ffn; i++) {
                                    const size_t at = size_t(t * 2 * ffn + i);
                                    const double gate = p.y[at], up = p.y[at + size_t(ffn)];
                                    // silu's slope is at most 1.1.
                                    const double slack =
                                        1.1 * p.slack[at] * std::abs(up) + std::abs(gate) * p.slack[at + size_t(ffn)] + 1e-6;
                                    ASSERT_NEAR(found[size_t(t * ffn + i)], gate / (1 + std::exp(-gate)) * up, slack);
                                }
                        }
}

TEST(TernaryLinear, BecomesAPackedLayer) {
    for (bool five : {false, true})
        for (int64_t in : {4, 64, 80, 100, 132, 640, 1000}) {
            const std::vector<PackedWeight> parts{random_ternary(13, in, 9), random_ternary(34, in, 10),
                                                  random_ternary(5, in, 11)};
            Graph g(test::device());
            test::Tensors data(g);
            Tensor weight = dequantize(g, ternary_as_packed(g, on_device(g, data, parts, five)), DType::f32);
            g.keep(weight);
            Executable executable(g, "unpack");
            executable.run();
            std::vector<float> expected;
            for (const PackedWeight& w : parts) {
                const std::vector<float> values = dequantize(w);
                expected.insert(expected.end(), values.begin(), values.end());
            }
            EXPECT_EQ(test::read_floats(executable, weight), expected) << in;
        }
}

TEST(TernaryLinear, UnpacksToDigitsTimesTheRowsScale) {
    for (bool five : {false, true})
        for (int64_t in : {4, 36, 64, 80, 100, 320}) {
            SCOPED_TRACE(fmt::format("five {}, rows of {}", five, in));
            const std::vector<PackedWeight> parts{random_ternary(37, in, 1), random_ternary(2, in, 2), random_ternary(64, in, 3)};
            Graph g(test::device());
            test::Tensors data(g);
            const TernaryLayer layer = on_device(g, data, parts, five);
            std::vector<Tensor> found;
            for (size_t i = 0; i < parts.size(); i++) {
                found.push_back(ternary_values(g, layer, i, "values"));
                g.keep(found.back());
            }
            EXPECT_THROW(ternary_values(g, layer, 3, "values"), Error);
            Executable executable(g, "values");
            executable.run();
            for (size_t i = 0; i < parts.size(); i++) {
                PackedWeight w = parts[i];
                w.centroids = {-1, 0, 1, 1};
                EXPECT_EQ(test::read_floats(executable, found[i]), dequantize(w)) << "part " << i;
            }
        }
}

TEST(TernaryLinear, ManyTokensOnMatrixUnitsAreAsExact) {
    if (!has_ternary_matmul(test::device().capabilities())) GTEST_SKIP() << "no matrix units for bf16";
    const float eps = 1e-5f;
    for (int64_t in : {64, 100, 448})
        for (bool five : {false, true}) {
            const std::vector<PackedWeight> parts{random_ternary(64, in, 1), random_ternary(17, in, 2),
                                                  random_ternary(33, in, 3)};
            const int64_t tokens = 37, columns = 114;
            const std::vector<float> x = test::normal(size_t(tokens * in), 6),
                                     residual = test::normal(size_t(tokens * columns), 7);
            const std::vector<float> norm = test::uniform(size_t(in), 4, 0.5f, 1.5f);
            Graph g(test::device());
            test::Tensors data(g);
            const TernaryLayer layer = on_device(g, data, parts, five);
            Tensor input = data.floats({tokens, in}, x, "x");
            Tensor plain =
                ternary_matmul(g, input, layer, "y", {.residual = data.floats({tokens, columns}, residual, "residual")});
            Tensor normed = ternary_matmul(g, input, layer, "y", {.norm = data.floats({in}, norm, "norm"), .eps = eps});
            g.keep(plain);
            g.keep(normed);
            Executable executable(g, "ternary_matmul");
            executable.run();
            Expected e = reference(parts, doubles(x));
            for (size_t i = 0; i < e.y.size(); i++) e.y[i] += residual[i], e.slack[i] += 1e-6;
            expect_within(test::read_floats(executable, plain), e);
            std::vector<double> behind;
            for (int64_t t = 0; t < tokens; t++) {
                double squares = 0;
                for (int64_t i = 0; i < in; i++) squares += double(x[size_t(t * in + i)]) * double(x[size_t(t * in + i)]);
                for (int64_t i = 0; i < in; i++)
                    behind.push_back(double(x[size_t(t * in + i)]) / std::sqrt(squares / double(in) + double(eps)) *
                                     double(norm[size_t(i)]));
            }
            expect_within(test::read_floats(executable, normed), reference(parts, behind));
        }
}

TEST(TernaryLinear, ErrorsOnWrongShapesAndOnTraining) {
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    const TernaryLayer w = on_device(g, data, {random_ternary(8, 64, 1)}, false);
    Tensor x = data.floats({2, 64}, test::normal(128, 1), "x");
    EXPECT_NO_THROW(ternary_linear(g, x, w));
    EXPECT_THROW(ternary_linear(g, data.floats({2, 32}, test::normal(64, 1), "x"), w), Error);
    EXPECT_THROW(ternary_linear(g, x, w, "y", {.swiglu = true}), Error);
    EXPECT_THROW(ternary_linear(g, x, w, "y", {.norm = data.floats({32}, test::normal(32, 1), "norm")}), Error);
    TernaryLayer wrong = w;
    wrong.rows = {33};
    EXPECT_THROW(ternary_linear(g, x, wrong), Error);
    data.parameter_gradient(x);
    EXPECT_THROW(ternary_linear(g, x, w), Error);
}

}  // namespace
}  // namespace vkqat

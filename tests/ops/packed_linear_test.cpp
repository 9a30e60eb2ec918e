#include "runtime/ops/packed_linear.h"

#include "tests/support/packed.h"

namespace vkqat {
namespace {

using test::random_packed;

constexpr PackedLinearVariant variants[] = {PackedLinearVariant::rows, PackedLinearVariant::matvec,
                                            PackedLinearVariant::integers};

// What an output may err by, as a share of sum |w x|. fp32 sums of n terms in at least 8 strands err by less than
// (n / 8 + 8) 2^-24 in the worst case and by far less on average. The matvec variant rounds weights and activations to fp16
// (2^-12 each, 3.5e-4 where both are worst) and adds 16 of them in fp16 (16 * 2^-12 worst, but of signed terms): 1e-3 holds. In
// integers a quarter of the activations err by up to 1.2e-4 of the largest of 64, the others by a half, a quarter, an eighth of
// that at 1 bit; at 2 bits all by 1.5e-5, but centroids, as bytes, by 1.3e-4 of their range on average, one codebook of a hundred
// by more than 6e-4 (of 200,000 random ones the worst 1.2e-3).
double bound(PackedLinearVariant variant, int bits = 1) {
    return variant == PackedLinearVariant::rows ? 1e-6 : variant == PackedLinearVariant::integers && bits == 1 ? 1.2e-4 : 1e-3;
}

bool can_run(const PackedWeight& w, PackedLinearVariant variant) {
    return variant == PackedLinearVariant::rows ||
           (variant == PackedLinearVariant::integers ? w.bits <= 2 && w.block_size % 64 == 0 : w.block_size % 32 == 0);
}

std::vector<float> run(const std::vector<PackedWeight>& parts, const std::vector<float>& x, PackedLinearVariant variant,
                       const MatvecTuning& tuning = {}) {
    Graph g(test::device());
    test::Tensors data(g);
    PackedLayer layer = test::tiled(g, data, parts);
    Tensor y = packed_linear(g, data.floats({int64_t(x.size()) / layer.in, layer.in}, x, "x"), layer, "y", {}, variant, tuning);
    g.keep(y);
    Executable executable(g, "packed_linear");
    executable.run();
    return test::read_floats(executable, y);
}

struct Products {
    std::vector<double> y, magnitude;  // [tokens, out]; sum |w x|
};
Products reference(const std::vector<PackedWeight>& parts, const std::vector<float>& x) {
    const size_t in = size_t(parts[0].in), tokens = x.size() / in;
    Products p;
    for (size_t t = 0; t < tokens; t++)
        for (const PackedWeight& w : parts) {
            const std::vector<float> values = dequantize(w);
            for (size_t o = 0; o < size_t(w.out); o++) {
                double sum = 0, magnitude = 1e-30;
                for (size_t i = 0; i < in; i++) {
                    const double term = double(x[t * in + i]) * values[o * in + i];
                    sum += term;
                    magnitude += std::abs(term);
                }
                p.y.push_back(sum);
                p.magnitude.push_back(magnitude);
            }
        }
    return p;
}

// The largest error of an output as a share of sum |w x|.
double worst_error(const std::vector<PackedWeight>& parts, const std::vector<float>& x, const std::vector<float>& y) {
    const Products p = reference(parts, x);
    if (y.size() != p.y.size()) return INFINITY;
    double worst = 0;
    for (size_t i = 0; i < y.size(); i++) {
        const double error = std::abs(y[i] - p.y[i]) / p.magnitude[i];
        if (!(error <= worst)) worst = error;
    }
    return worst;
}

TEST(PackedLinear, AgreesWithTheUnpackedProductForEveryWidthBlockShapeAndVariant) {
    struct Case {
        int64_t out, in, block;
    };
    const Case cases[] = {{1, 64, 64},     {33, 256, 64}, {7, 192, 192}, {5, 384, 128},   {9, 40, 4},
                          {3, 1000, 1000}, {2, 520, 104}, {70, 8, 8},    {130, 2080, 32}, {40, 672, 96}};
    for (const Case& c : cases)
        for (int bits : {1, 2, 3, 4, 8})
            for (size_t tokens : c.in % 64 ? std::vector<size_t>{1} : std::vector<size_t>{1, 3})
                for (PackedLinearVariant variant : variants) {
                    SCOPED_TRACE(fmt::format("[{}, {}] {} bits, blocks of {}, {} tokens, variant {}", c.out, c.in, bits, c.block,
                                             tokens, int(variant)));
                    PackedWeight w = random_packed(c.out, c.in, bits, c.block, uint32_t(c.out * 8 + bits));
                    if (!can_run(w, variant)) continue;
                    std::vector<float> x = test::normal(tokens * size_t(c.in), 4);
                    EXPECT_LE(worst_error({w}, x, run({w}, x, variant)), bound(variant, w.bits));
                }
}

TEST(PackedLinear, AnyNumberOfTokens) {
    for (size_t tokens : {2, 3, 5, 8, 9, 16, 17})
        for (int bits : tokens == 5 || tokens == 16 ? std::vector<int>{1, 2, 3, 4, 8} : std::vector<int>{1, 4})
            for (PackedLinearVariant variant : variants) {
                SCOPED_TRACE(fmt::format("{} tokens, {} bits, variant {}", tokens, bits, int(variant)));
                PackedWeight w = random_packed(45, 192, bits, 64, 5);
                if (!can_run(w, variant)) continue;
                std::vector<float> x = test::normal(tokens * 192, 6);
                EXPECT_LE(worst_error({w}, x, run({w}, x, variant)), bound(variant, w.bits));
            }
}

TEST(PackedLinear, RowsThatAreWholeBytesButNoMultipleOfEightIndices) {
    for (auto [bits, in] : {std::pair<int, int64_t>{2, 4}, {2, 36}, {4, 2}, {4, 50}, {8, 1}, {8, 13}}) {
        PackedWeight w = random_packed(11, in, bits, in, 7);
        std::vector<float> x = test::normal(size_t(2 * in), 8);
        EXPECT_LE(worst_error({w}, x, run({w}, x, PackedLinearVariant::rows)), 1e-6) << bits << " bits, " << in;
    }
}

TEST(PackedLinear, PartsHaveTheirOwnCentroidsAndPadding) {
    for (int bits : {1, 2, 3, 4, 8})
        for (size_t tokens : {1, 2})
            for (PackedLinearVariant variant : variants) {
                SCOPED_TRACE(fmt::format("{} bits, {} tokens, variant {}", bits, tokens, int(variant)));
                std::vector<PackedWeight> parts{random_packed(64, 320, bits, 64, 1), random_packed(17, 320, bits, 64, 2),
                                                random_packed(33, 320, bits, 64, 3)};
                if (!can_run(parts[0], variant)) continue;
                std::vector<float> x = test::normal(tokens * 320, 6);
                EXPECT_LE(worst_error(parts, x, run(parts, x, variant)), bound(variant, parts[0].bits));
                parts.pop_back();
                EXPECT_LE(worst_error(parts, x, run(parts, x, variant)), bound(variant, parts[0].bits));
            }
}

TEST(PackedLinear, EveryShapeOfWorkgroup) {
    std::vector<float> x = test::normal(1344, 6);
    for (int bits : {1, 2, 3, 4, 8}) {
        PackedWeight w = random_packed(128, 1344, bits, 64, 1);
        for (const MatvecTuning& tuning :
             {MatvecTuning{.width = 64, .depth = 1, .slab = 256}, MatvecTuning{.width = 128, .tiles = 2, .depth = 3, .copies = 2},
              MatvecTuning{.width = 512, .tiles = 5, .depth = 2, .copies = 1, .slab = 1024},
              MatvecTuning{.width = 256, .tiles = 32, .depth = 1, .copies = 4},
              MatvecTuning{.width = 64, .depth = 2, .chunks = 2}}) {
            SCOPED_TRACE(fmt::format("{} bits, width {}, {} quads", bits, tuning.width, tuning.tiles));
            for (PackedLinearVariant variant : {PackedLinearVariant::matvec, PackedLinearVariant::integers})
                if (can_run(w, variant)) {
                    EXPECT_LE(worst_error({w}, x, run({w}, x, variant, tuning)), bound(variant, w.bits));
                }
        }
    }
}

// At 2 bits integers take centroids as bytes times a scale: also where some are the same, or all.
TEST(PackedLinear, CodebooksOfAnyShape) {
    const std::vector<float> x = test::normal(512, 6);
    PackedWeight w = random_packed(64, 512, 2, 64, 1);
    for (const std::vector<float>& centroids : {std::vector<float>{0.5f, 0.5f, 0.5f, 0.5f},
                                                {0, 0, 0, 0},
                                                {-1, -1, 1, 1},
                                                {1, 0.01f, -0.01f, -1},
                                                {300, 301, 302, 310},
                                                {1e-6f, 0, -2e-6f, 3e-6f}}) {
        w.centroids = centroids;
        EXPECT_LE(worst_error({w}, x, run({w}, x, PackedLinearVariant::integers)), bound(PackedLinearVariant::integers, w.bits))
            << fmt::format("{}", fmt::join(centroids, " "));
    }
}

// So many rows in a workgroup that their sums do not fit: they are finished batch by batch.
TEST(PackedLinear, RowsInBatches) {
    const int64_t rows = 1299, in = 1344;
    const std::vector<float> x = test::normal(in, 6), residual = test::normal(rows, 7);
    for (int bits : {1, 2, 3, 4, 8})
        for (PackedLinearVariant variant : {PackedLinearVariant::matvec, PackedLinearVariant::integers})
            for (uint32_t depth : {1, 2}) {
                const PackedWeight w = random_packed(rows, in, bits, 64, 1);
                if (!can_run(w, variant)) continue;
                Graph g(test::device());
                test::Tensors data(g);
                Tensor y = packed_linear(g, data.floats({1, in}, x, "x"), test::tiled(g, data, {w}), "y",
                                         {.residual = data.floats({1, rows}, residual, "residual")}, variant,
                                         {.width = 64, .tiles = 325, .depth = depth});
                g.keep(y);
                Executable executable(g, "packed_linear");
                executable.run();
                std::vector<float> found = test::read_floats(executable, y);
                for (size_t i = 0; i < found.size(); i++) found[i] -= residual[i];
                EXPECT_LE(worst_error({w}, x, found), bound(variant, bits)) << bits << " bits, depth " << depth;
            }
}

// fp16 neither overflows nor loses what is small: activations over 60 powers of two, and rows of zeros.
TEST(PackedLinear, ActivationsOfAnyMagnitude) {
    for (int bits : {1, 2, 3, 4, 8})
        for (size_t tokens : {1, 2}) {
            PackedWeight w = random_packed(40, 256, bits, 64, 5);
            std::vector<float> x = test::normal(tokens * 256, 6);
            for (size_t i = 0; i < x.size(); i++) x[i] *= std::ldexp(1.0f, int(i % 256 / 32) * 9 - 30);
            std::fill(x.begin() + 64, x.begin() + 96, 0.0f);
            for (PackedLinearVariant variant : {PackedLinearVariant::matvec, PackedLinearVariant::integers})
                if (can_run(w, variant)) {
                    EXPECT_LE(worst_error({w}, x, run({w}, x, variant)), bound(variant, w.bits));
                }
        }
}

TEST(PackedLinear, FoldsInTheNormTheResidualAndTheGatedActivation) {
    const int64_t in = 448, ffn = 70;
    const MatvecTuning shapes[] = {{}, {.width = 128, .tiles = 3, .depth = 2, .copies = 2, .slab = 256}};
    const float eps = 1e-5f;
    for (int bits : {1, 2, 3, 4, 8})
        for (int64_t tokens : {1, 3})
            for (DType norm_type : {bits % 2 ? DType::f32 : DType::f16, DType::bf16})
                for (PackedLinearVariant variant : variants) {
                    SCOPED_TRACE(
                        fmt::format("{} bits, {} tokens, norm {}, variant {}", bits, tokens, name(norm_type), int(variant)));
                    std::vector<PackedWeight> parts{random_packed(ffn, in, bits, 64, 1), random_packed(ffn, in, bits, 64, 2)};
                    if (!can_run(parts[0], variant)) continue;
                    for (PackedWeight& w : parts)
                        for (uint16_t& s : w.scales) s = f32_to_bf16(bf16_to_f32(s) * 0.1f);
                    std::vector<float> x = test::normal(size_t(tokens * in), 3, 4),
                                       norm = test::uniform(size_t(in), 4, 0.5f, 1.5f);
                    std::vector<float> residual = test::normal(size_t(tokens * 2 * ffn), 5);
                    for (float& n : norm)
                        n = norm_type == DType::f16    ? f16_to_f32(f32_to_f16(n))
                            : norm_type == DType::bf16 ? bf16_to_f32(f32_to_bf16(n))
                                                       : n;
                    Graph g(test::device());
                    test::Tensors data(g);
                    PackedLayer layer = test::tiled(g, data, parts);
                    Tensor input = data.floats({tokens, in}, x, "x"), weight = data.floats({in}, norm, "norm", norm_type);
                    Tensor gated = packed_linear(g, input, layer, "gate_up", {.norm = weight, .eps = eps, .swiglu = true},
                                                 variant, shapes[tokens != 1]);
                    Tensor sum = packed_linear(g, input, layer, "o",
                                               {.residual = data.floats({tokens, 2 * ffn}, residual, "residual")}, variant);
                    g.keep(gated);
                    g.keep(sum);
                    Executable executable(g, "fused");
                    executable.run();

                    std::vector<float> normed;
                    for (int64_t t = 0; t < tokens; t++) {
                        double squares = 0;
                        for (int64_t i = 0; i < in; i++) squares += double(x[size_t(t * in + i)]) * x[size_t(t * in + i)];
                        for (int64_t i = 0; i < in; i++)
                            normed.push_back(
                                float(x[size_t(t * in + i)] / std::sqrt(squares / double(in) + eps) * norm[size_t(i)]));
                    }
                    Products p = reference(parts, normed), q = reference(parts, x);
                    std::vector<double> expected;
                    for (int64_t t = 0; t < tokens; t++)
                        for (int64_t i = 0; i < ffn; i++) {
                            double gate = p.y[size_t(t * 2 * ffn + i)], up = p.y[size_t(t * 2 * ffn + ffn + i)];
                            expected.push_back(gate / (1 + std::exp(-gate)) * up);
                        }
                    for (size_t i = 0; i < q.y.size(); i++) q.y[i] += residual[i];
                    double limit = bound(variant) == 1e-6 ? 1e-5 : 2e-3;  // norm against norm
                    EXPECT_LE(test::relative_error(test::read_floats(executable, gated), expected), limit);
                    EXPECT_LE(test::relative_error(test::read_floats(executable, sum), q.y), limit);
                }
}

// Zero points, and scales of their own for weights below 0: in the product with norm, residual and SwiGLU.
TEST(PackedLinear, BlocksWithZeroPointsOrTwoScales) {
    const int64_t in = 448, ffn = 70, blocks = in / 64;
    const MatvecTuning shapes[] = {
        {}, {.width = 128, .tiles = 3, .depth = 2, .copies = 2, .slab = 256}, {.width = 64, .chunks = 2}};
    for (int bits : {1, 2, 3, 4, 8})
        for (bool two_scales : {false, true})
            for (int64_t tokens : {1, 2, 3}) {  // several where they differ: each case is two kernels to be compiled
                if ((two_scales && bits == 1) || (tokens == 2 && bits != 4) || (tokens == 3 && bits != 3)) continue;
                SCOPED_TRACE(fmt::format("{} bits, two scales {}, {} tokens", bits, two_scales, tokens));
                std::vector<PackedWeight> parts{random_packed(ffn, in, bits, 64, 1), random_packed(ffn, in, bits, 64, 2)}, below;
                Graph g(test::device());
                test::Tensors data(g);
                // What the product means, as dense values of each part.
                std::vector<std::vector<float>> dense;
                std::vector<uint8_t> zeros;
                for (PackedWeight& w : parts) {
                    for (uint16_t& s : w.scales) s = f32_to_bf16(bf16_to_f32(s) * 0.1f);
                    PackedWeight n = w;
                    for (uint16_t& s : n.scales) s = f32_to_bf16(bf16_to_f32(s) * 0.7f);
                    below.push_back(n);
                    std::vector<float> values = dequantize(w);
                    const std::vector<float> other = dequantize(n);
                    std::vector<uint8_t> zero(size_t(96 * blocks), 0);
                    for (size_t i = 0; i < values.size(); i++) {
                        const size_t b = i / 64, row = b / size_t(blocks);
                        const auto z = uint8_t((b * 5 + 1) % 4);
                        zero[(row / 4 * size_t(blocks) + b % size_t(blocks)) * 4 + row % 4] = z;
                        if (two_scales)
                            values[i] = values[i] < 0 ? other[i] : values[i];
                        else
                            values[i] += (1.25f - float(z)) * bf16_to_f32(w.scales[b]);
                    }
                    zeros.insert(zeros.end(), zero.begin(), zero.end());
                    dense.push_back(values);
                }
                const std::vector<float> x = test::normal(size_t(tokens * in), 3, 4),
                                         residual = test::normal(size_t(tokens * 2 * ffn), 5);
                Tensor input = data.floats({tokens, in}, x, "x"),
                       weight = data.floats({in}, std::vector<float>(size_t(in), 1), "norm");
                const PackedLayer layer = test::tiled(g, data, parts);
                PackedAsymmetry of_blocks{.center = 1.25f};
                if (two_scales)
                    of_blocks.negative_scales = test::tiled(g, data, below).scales;
                else
                    of_blocks.zeros = data.bytes({int64_t(zeros.size())}, zeros, "zeros");
                Tensor gated = packed_asymmetric_linear(g, input, layer, of_blocks, "gate_up",
                                                        {.norm = weight, .eps = 1e-5f, .swiglu = true}, shapes[tokens - 1]);
                Tensor sum = packed_asymmetric_linear(g, input, layer, of_blocks, "o",
                                                      {.residual = data.floats({tokens, 2 * ffn}, residual, "residual")});
                g.keep(gated);
                g.keep(sum);
                Executable executable(g, "asymmetric");
                executable.run();
                std::vector<double> expected_gated, expected;
                for (int64_t t = 0; t < tokens; t++) {
                    double squares = 0;
                    for (int64_t i = 0; i < in; i++) squares += double(x[size_t(t * in + i)]) * x[size_t(t * in + i)];
                    const double inverse = 1 / std::sqrt(squares / double(in) + 1e-5);
                    for (const std::vector<float>& w : dense)
                        for (int64_t o = 0; o < ffn; o++) {
                            double y = 0;
                            for (int64_t i = 0; i < in; i++) y += double(x[size_t(t * in + i)]) * w[size_t(o * in + i)];
                            expected.push_back(y);
                        }
                    const double* y = &expected[size_t(t * 2 * ffn)];
                    for (int64_t o = 0; o < ffn; o++)
                        expected_gated.push_back(y[o] * inverse / (1 + std::exp(-y[o] * inverse)) * y[ffn + o] * inverse);
                }
                for (size_t i = 0; i < expected.size(); i++) expected[i] += residual[i];
                EXPECT_LE(test::relative_error(test::read_floats(executable, gated), expected_gated),
                          3e-3);  // as two halves of 1e-3
                EXPECT_LE(test::relative_error(test::read_floats(executable, sum), expected), 1e-3);
            }
    Graph g(test::device());
    test::Tensors data(g);
    Tensor x = data.floats({1, 64}, test::normal(64, 1), "x");
    const PackedLayer w = test::tiled(g, data, {random_packed(8, 64, 2, 32, 1)});
    Tensor zeros = data.bytes({64}, std::vector<uint8_t>(64, 1), "zeros");
    EXPECT_NO_THROW(packed_asymmetric_linear(g, x, w, {.zeros = zeros}, "y"));
    EXPECT_THROW(packed_asymmetric_linear(g, x, w, {.zeros = data.bytes({4}, {1, 2, 3, 4}, "zeros")}, "y"), Error);
    EXPECT_THROW(packed_asymmetric_linear(g, x, w, {.zeros = zeros, .negative_scales = w.scales}, "y"), Error);
}

TEST(PackedLinear, PartsMayHaveNormsOfTheirOwn) {
    for (int64_t tokens : {1, 3}) {
        const std::vector<PackedWeight> parts{random_packed(40, 320, 1, 320, 1), random_packed(9, 320, 1, 320, 2),
                                              random_packed(33, 320, 1, 320, 3)};
        const std::vector<float> x = test::normal(size_t(tokens) * 320, 3, 4), norm = test::uniform(3 * 320, 4, 0.5f, 1.5f);
        Graph g(test::device());
        test::Tensors data(g);
        const PackedLayer layer = test::tiled(g, data, parts);
        Tensor y = packed_linear(g, data.floats({tokens, 320}, x, "x"), layer, "y",
                                 {.norm = data.floats({3, 320}, norm, "norm"), .eps = 1e-5f}, PackedLinearVariant::matvec);
        g.keep(y);
        // Each part by itself is the same as a layer.
        std::vector<Tensor> single;
        for (size_t part = 0; part < 3; part++) {
            const std::vector<float> weights(norm.begin() + int64_t(part) * 320, norm.begin() + int64_t(part + 1) * 320);
            single.push_back(packed_linear(g, data.floats({tokens, 320}, x, "x"), packed_part(g, layer, part), "part",
                                           {.norm = data.floats({320}, weights, "norm"), .eps = 1e-5f},
                                           PackedLinearVariant::matvec));
            g.keep(single.back());
        }
        Executable executable(g, "norms");
        executable.run();
        const std::vector<float> found = test::read_floats(executable, y);
        size_t column = 0;
        for (size_t part = 0; part < 3; column += size_t(parts[part++].out)) {
            const std::vector<float> expected = test::read_floats(executable, single[part]);
            for (size_t i = 0; i < expected.size(); i++) {
                const size_t t = i / size_t(parts[part].out), o = i % size_t(parts[part].out);
                ASSERT_FLOAT_EQ(found[t * 82 + column + o], expected[i]);
            }
        }
    }
}

TEST(PackedLinear, WritesColumnsOfALargerTensorAndNoOthers) {
    for (PackedLinearVariant variant : variants) {
        PackedWeight a = random_packed(20, 64, 2, 64, 1),
                     b = random_packed(9, 64, variant == PackedLinearVariant::integers ? 1 : 4, 64, 2);
        std::vector<float> x = test::normal(3 * 64, 3);
        Graph g(test::device());
        test::Tensors data(g);
        Tensor input = data.floats({3, 64}, x, "x"), y = data.poisoned({3, 32}, "y");
        PackedLayer layer_a = test::tiled(g, data, {a}), layer_b = test::tiled(g, data, {b});
        packed_linear_into(g, input, layer_a, y, 1, "a", variant);
        packed_linear_into(g, input, layer_b, y, 21, "b", variant);
        EXPECT_THROW(packed_linear_into(g, input, layer_b, y, 24, "b", variant), Error);
        EXPECT_THROW(packed_linear_into(g, input, layer_b, y, -1, "b", variant), Error);
        Executable(g, "packed_linear").run();
        std::vector<float> found = data.read(y), left, right;
        for (size_t t = 0; t < 3; t++) {
            const float* row = &found[t * 32];
            for (size_t column : {0, 30, 31}) EXPECT_TRUE(std::isnan(row[column]));
            left.insert(left.end(), row + 1, row + 21);
            right.insert(right.end(), row + 21, row + 30);
        }
        EXPECT_LE(worst_error({a}, x, left), bound(variant, a.bits));
        EXPECT_LE(worst_error({b}, x, right), bound(variant, b.bits));
    }
}

TEST(PackedLinear, FoldsANormIntoColumnsOfALargerTensor) {
    const std::vector<PackedWeight> parts{random_packed(20, 320, 1, 320, 1)};
    std::vector<float> x = test::normal(2 * 320, 3, 4), norm = test::uniform(320, 4, 0.5f, 1.5f), normed;
    for (PackedLinearVariant variant : variants) {
        Graph g(test::device());
        test::Tensors data(g);
        Tensor y = data.poisoned({2, 25}, "y");
        const PackedLayer layer = test::tiled(g, data, parts);
        auto multiply = [&] {
            packed_linear_into(g, data.floats({2, 320}, x, "x"), layer, y, 3, "a", variant, data.floats({320}, norm, "norm"),
                               1e-5f);
        };
        if (!can_run(parts[0], variant)) continue;
        if (variant == PackedLinearVariant::rows) {
            EXPECT_THROW(multiply(), Error);
            continue;
        }
        multiply();
        Executable(g, "packed_linear").run();
        normed.clear();
        for (size_t t = 0; t < 2; t++) {
            double squares = 0;
            for (size_t i = 0; i < 320; i++) squares += double(x[t * 320 + i]) * x[t * 320 + i];
            for (size_t i = 0; i < 320; i++) normed.push_back(float(x[t * 320 + i] / std::sqrt(squares / 320 + 1e-5) * norm[i]));
        }
        const std::vector<float> all = data.read(y);
        std::vector<float> found(all.begin() + 3, all.begin() + 23);
        found.insert(found.end(), all.begin() + 28, all.begin() + 48);
        EXPECT_LE(worst_error(parts, normed, found), bound(variant));
    }
}

TEST(PackedLinear, DequantizesExactly) {
    for (int bits : {1, 2, 3, 4, 8})
        for (DType type : {DType::f32, DType::f16, DType::bf16}) {
            std::vector<PackedWeight> parts{random_packed(13, 120, bits, 40, 9), random_packed(34, 120, bits, 40, 10),
                                            random_packed(5, 120, bits, 40, 11)};
            Graph g(test::device());
            test::Tensors data(g);
            Tensor weight = dequantize(g, test::tiled(g, data, parts), type);
            g.keep(weight);
            Executable executable(g, "dequantize");
            executable.run();
            std::vector<float> found = test::read_floats(executable, weight), expected;
            for (const PackedWeight& w : parts) {
                std::vector<float> values = dequantize(w);
                expected.insert(expected.end(), values.begin(), values.end());
            }
            ASSERT_EQ(found.size(), expected.size());
            for (size_t i = 0; i < expected.size(); i++)
                ASSERT_EQ(found[i], type == DType::f32   ? expected[i]
                                    : type == DType::f16 ? f16_to_f32(f32_to_f16(expected[i]))
                                                         : bf16_to_f32(f32_to_bf16(expected[i])));
        }
}

TEST(PackedLinear, ErrorsOnWrongShapesAndOnTraining) {
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    PackedLayer w = test::tiled(g, data, {random_packed(8, 64, 2, 32, 1)});
    Tensor x = data.floats({2, 64}, test::normal(128, 1), "x");
    EXPECT_NO_THROW(packed_linear(g, x, w));
    EXPECT_THROW(packed_linear(g, data.floats({2, 32}, test::normal(64, 1), "x"), w), Error);
    EXPECT_THROW(packed_linear(g, x, w, "y", {.swiglu = true}), Error);
    EXPECT_THROW(packed_linear(g, x, w, "y", {.norm = data.floats({32}, test::normal(32, 1), "norm")}), Error);
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
    wrong.rows = {33};
    EXPECT_THROW(packed_linear(g, x, wrong), Error);
    wrong.rows = {};
    EXPECT_THROW(packed_linear(g, x, wrong), Error);
    data.parameter_gradient(x);
    EXPECT_THROW(packed_linear(g, x, w), Error);
}

}  // namespace
}  // namespace vkqat

#include "runtime/ops/dense_matvec.h"

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

std::vector<float> rounded(std::vector<float> values, DType type) {
    for (float& v : values)
        v = type == DType::f16 ? f16_to_f32(f32_to_f16(v)) : type == DType::bf16 ? bf16_to_f32(f32_to_bf16(v)) : v;
    return values;
}

std::vector<double> product(const std::vector<float>& x, const std::vector<float>& w, size_t in) {
    std::vector<double> y;
    for (size_t t = 0; t < x.size() / in; t++)
        for (size_t o = 0; o < w.size() / in; o++) {
            double sum = 0;
            for (size_t i = 0; i < in; i++) sum += double(x[t * in + i]) * w[o * in + i];
            y.push_back(sum);
        }
    return y;
}

TEST(DenseMatvec, EveryTypeShapeAndWorkgroup) {
    struct Case {
        int64_t out, in;
    };
    for (const Case& c : {Case{1, 8}, {5, 64}, {37, 264}, {130, 1048}, {64, 2056}})
        for (DType type : {DType::f32, DType::f16, DType::bf16})
            for (int64_t tokens : {1, 3, 8})
                for (const MatvecTuning& tuning : {MatvecTuning{.width = 64, .tiles = 2, .depth = 1, .split = 1},
                                                   MatvecTuning{.width = 128, .tiles = 4, .depth = 2, .split = 2, .staged = 1},
                                                   MatvecTuning{.width = 256, .tiles = 8, .depth = 1, .split = 4, .staged = 0}}) {
                    SCOPED_TRACE(fmt::format("[{}, {}] {}, {} tokens, width {}", c.out, c.in, name(type), tokens, tuning.width));
                    std::vector<float> x = test::normal(size_t(tokens * c.in), 1),
                                       w = rounded(test::normal(size_t(c.out * c.in), 2), type);
                    Graph g(test::device());
                    test::Tensors data(g);
                    Tensor y = dense_linear(g, data.floats({tokens, c.in}, x, "x"), data.floats({c.out, c.in}, w, "w", type), "y",
                                            {}, tuning);
                    g.keep(y);
                    Executable executable(g, "matvec");
                    executable.run();
                    EXPECT_LE(test::relative_error(test::read_floats(executable, y), product(x, w, size_t(c.in))), 1e-6);
                }
}

TEST(DenseMatvec, FoldsInTheNormTheResidualAndTheGatedActivation) {
    const int64_t in = 328, ffn = 45;
    const float eps = 1e-5f;
    for (int64_t tokens : {1, 3})
        for (auto [width, staged] :
             {std::pair<uint32_t, int>{0, -1}, {128, 0}, {128, 1}}) {  // 0: separate operations on a CPU device
            std::vector<float> x = test::normal(size_t(tokens * in), 3, 4), norm = test::uniform(size_t(in), 4, 0.5f, 1.5f);
            std::vector<float> w = rounded(test::normal(size_t(2 * ffn * in), 6, 0.1f), DType::bf16);
            std::vector<float> residual = test::normal(size_t(tokens * 2 * ffn), 5);
            Graph g(test::device());
            test::Tensors data(g);
            Tensor input = data.floats({tokens, in}, x, "x"), weight = data.floats({2 * ffn, in}, w, "w", DType::bf16);
            Tensor gated =
                dense_linear(g, input, weight, "gate_up", {.norm = data.floats({in}, norm, "norm"), .eps = eps, .swiglu = true},
                             {.width = width, .staged = staged});
            Tensor sum = dense_linear(g, input, weight, "o", {.residual = data.floats({tokens, 2 * ffn}, residual, "r")},
                                      {.width = width, .staged = staged});
            g.keep(gated);
            g.keep(sum);
            Executable executable(g, "fused");
            executable.run();
            std::vector<float> normed;
            for (int64_t t = 0; t < tokens; t++) {
                double squares = 0;
                for (int64_t i = 0; i < in; i++) squares += double(x[size_t(t * in + i)]) * x[size_t(t * in + i)];
                for (int64_t i = 0; i < in; i++)
                    normed.push_back(float(x[size_t(t * in + i)] / std::sqrt(squares / double(in) + eps) * norm[size_t(i)]));
            }
            std::vector<double> p = product(normed, w, size_t(in)), q = product(x, w, size_t(in)), expected;
            for (int64_t t = 0; t < tokens; t++)
                for (int64_t i = 0; i < ffn; i++) {
                    double gate = p[size_t(t * 2 * ffn + i)], up = p[size_t(t * 2 * ffn + ffn + i)];
                    expected.push_back(gate / (1 + std::exp(-gate)) * up);
                }
            for (size_t i = 0; i < q.size(); i++) q[i] += residual[i];
            EXPECT_LE(test::relative_error(test::read_floats(executable, gated), expected), 1e-5);
            EXPECT_LE(test::relative_error(test::read_floats(executable, sum), q), 1e-5);
        }
}

TEST(DenseMatvec, ErrorsNameWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor w = data.floats({6, 16}, test::normal(96, 1), "w"), x = data.floats({2, 16}, test::normal(32, 1), "x");
    EXPECT_THROW(dense_linear(g, data.floats({2, 8}, test::normal(16, 1), "x"), w, "y"), Error);
    EXPECT_THROW(dense_linear(g, x, w, "y", {.residual = x}, {.width = 64}), Error);
    EXPECT_THROW(dense_linear(g, x, data.floats({5, 16}, test::normal(80, 1), "w"), "y", {.swiglu = true}), Error);
}

}  // namespace
}  // namespace vkqat

#include "runtime/ops/rms_norm.h"

#include "runtime/ops/cast.h"
#include "shaders/args/rms_norm.h"
#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

constexpr float eps = 1e-5f;

struct Reference {
    std::vector<double> y, inv_rms, dx, dweight;
};
Reference reference(const std::vector<float>& x, const std::vector<float>& w, const std::vector<float>& dy) {
    size_t dim = w.size(), rows = x.size() / dim;
    Reference r{std::vector<double>(x.size()), {}, std::vector<double>(x.size()), std::vector<double>(dim)};
    for (size_t t = 0; t < rows; t++) {
        double squares = 0, c = 0;
        for (size_t i = 0; i < dim; i++) squares += double(x[t * dim + i]) * x[t * dim + i];
        double inv = 1 / std::sqrt(squares / double(dim) + double(eps));
        r.inv_rms.push_back(inv);
        for (size_t i = 0; i < dim; i++) c += double(dy[t * dim + i]) * w[i] * x[t * dim + i];
        for (size_t i = 0; i < dim; i++) {
            size_t k = t * dim + i;
            r.y[k] = x[k] * inv * w[i];
            r.dx[k] = inv * w[i] * dy[k] - x[k] * inv * inv * inv * c / double(dim);
            r.dweight[i] += dy[k] * double(x[k]) * inv;
        }
    }
    return r;
}

void check(int64_t tokens, int64_t dim, DType type) {
    SCOPED_TRACE(testing::Message() << tokens << " x " << dim << " " << name(type));
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    auto size = size_t(tokens * dim);
    Tensor x = data.floats({tokens, dim}, test::normal(size, 1, 2), "x");
    Tensor w = data.floats({dim}, test::uniform(size_t(dim), 2, 0.5, 1.5), "w", type);
    Tensor dy = data.floats({tokens, dim}, test::normal(size, 3), "dy");
    Tensor dx = data.parameter_gradient(x), dw = data.parameter_gradient(w);
    Tensor y = rms_norm(g, x, w, eps);
    g.keep(y);
    g.backward(y, dy);
    Executable executable(g, "test");
    executable.run();
    Reference r = reference(data.read(x), data.read(w), data.read(dy));
    // Sums of up to 1000 terms of fp32 in at most 250 steps each; a gradient of x with dim 1 is almost all cancelled.
    EXPECT_LT(test::relative_error(test::read_floats(executable, y), r.y), 1e-6);
    EXPECT_LT(test::relative_error(data.read(dw), r.dweight), 5e-6);
    if (dim > 1) {
        EXPECT_LT(test::relative_error(data.read(dx), r.dx), 5e-6);
    } else {
        auto result = data.read(dx);
        for (size_t i = 0; i < result.size(); i++) EXPECT_NEAR(result[i], r.dx[i], 1e-6 * (r.inv_rms[i] * 5));
    }
}

TEST(RmsNorm, ResultsIn16BitsAreRoundedOnes) {
    const int64_t tokens = 7, dim = 45;
    for (DType type : {DType::f16, DType::bf16}) {
        Graph g(test::device());
        test::Tensors data(g);
        const std::vector<float> values = test::normal(size_t(tokens * dim), 3);
        Tensor x = data.floats({tokens, dim}, values, "x"), w = data.floats({dim}, test::normal(size_t(dim), 4), "w");
        Tensor exact = rms_norm(g, x, w, eps), rounded = cast(g, rms_norm(g, x, w, eps, type), DType::f32);
        g.keep(exact);
        g.keep(rounded);
        Executable executable(g, "test");
        executable.run();
        const auto e = test::read_floats(executable, exact), r = test::read_floats(executable, rounded);
        for (size_t i = 0; i < e.size(); i++)
            EXPECT_NEAR(r[i], e[i], std::abs(e[i]) * (type == DType::f16 ? 0x1.01p-11 : 0x1.01p-8) + 1e-7);
    }
    Graph g(test::device());
    test::Tensors data(g);
    Tensor w = data.floats({8}, test::normal(8, 1), "w", DType::bf16);
    EXPECT_THROW(rms_norm(g, data.floats({1, 8}, test::normal(8, 2), "x"), w, eps, DType::bf16), Error);
}

TEST(RmsNorm, MatchesDoublePrecisionForwardAndBackward) {
    for (int64_t tokens : {1, 3, 129})
        for (int64_t dim : {1, 7, 64, 172, 1000}) check(tokens, dim, DType::f32);
}

TEST(RmsNorm, TakesWeightsOf16Bits) {
    for (DType type : {DType::f16, DType::bf16})
        for (int64_t dim : {7, 172}) check(3, dim, type);
}

TEST(RmsNorm, WeightGradientTakesAnyNumberOfTokens) {
    for (int64_t tokens : {31, 32, 33, 8192, 8193}) check(tokens, 5, DType::f32);
}

// Long rows are shared by several subgroups where barriers are cheap; here on every device.
TEST(RmsNorm, RowsMayBeSharedBySubgroups) {
    uint32_t size = test::device().capabilities().subgroup_size;
    bool uniform = test::device().capabilities().uniform_loads();
    for (uint32_t subgroups : {1u, 2u, 3u, 128 / size})
        for (int64_t dim : {5, 172, 1000}) {
            SCOPED_TRACE(testing::Message() << subgroups << " subgroups, dim " << dim);
            Graph g(test::device());
            test::Tensors data(g);
            auto n = size_t(3 * dim), d = size_t(dim);
            Tensor x = data.floats({3, dim}, test::normal(n, 1), "x"), w = data.floats({dim}, test::normal(d, 2), "w");
            Tensor dy = data.floats({3, dim}, test::normal(n, 3), "dy"), y = data.poisoned({3, dim}, "y");
            Tensor inv = data.poisoned({3}, "inv_rms"), dx = data.poisoned({3, dim}, "dx");
            g.dispatch(Kernel{"rms_norm_f32", {size * subgroups, uniform && dim % 8 == 0, subgroups}},
                       {in(x), in(w), out(y), out(inv)}, RmsNormArgs{.rows = 3, .dim = uint32_t(dim), .eps = eps}, linear_grid(3),
                       "forward");
            g.dispatch(Kernel{"rms_norm_backward_f32", {size * subgroups, uniform && dim % 8 == 0, subgroups}},
                       {in(dy), in(x), in(w), in(inv), in({}), out(dx)}, RmsNormBackwardArgs{.rows = 3, .dim = uint32_t(dim)},
                       linear_grid(3), "backward");
            Executable(g, "test").run();
            Reference r = reference(data.read(x), data.read(w), data.read(dy));
            EXPECT_LT(test::relative_error(data.read(y), r.y), 1e-6);
            EXPECT_LT(test::relative_error(data.read(inv), r.inv_rms), 1e-6);
            EXPECT_LT(test::relative_error(data.read(dx), r.dx), 5e-6);
        }
}

TEST(RmsNorm, RowsOfZerosGiveZeros) {
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    Tensor x = data.floats({2, 9}, std::vector<float>(18, 0), "x"), w = data.floats({9}, test::normal(9, 2), "w");
    Tensor dx = data.parameter_gradient(x);
    Tensor y = rms_norm(g, x, w, eps);
    g.keep(y);
    g.backward(y, data.floats({2, 9}, std::vector<float>(18, 1), "dy"));
    Executable executable(g, "test");
    executable.run();
    for (float v : test::read_floats(executable, y)) EXPECT_EQ(v, 0);
    auto gradient = data.read(dx), weight = data.read(w);
    for (size_t i = 0; i < 18; i++) EXPECT_NEAR(gradient[i], weight[i % 9] / std::sqrt(eps), 1e-3);
}

TEST(RmsNorm, GradientsInTheMiddleOfAGraph) {
    auto build = [](Graph& g, test::Tensors&, const std::vector<Tensor>& x) { return rms_norm(g, x[0], x[1], eps); };
    for (bool parameter : {false, true})
        test::check_gradients({{"x", {5, 37}, test::normal(185, 1)}, {"weight", {37}, test::normal(37, 2), parameter}}, build);
    test::check_gradients({{"x", {70, 3}, test::normal(210, 1)}, {"weight", {3}, test::normal(3, 2), true}}, build);
}

TEST(RmsNorm, EitherInputMayBeConstant) {
    test::check_gradients({{"x", {3, 9}, test::normal(27, 1)}}, [](Graph& g, test::Tensors& data, const std::vector<Tensor>& x) {
        return rms_norm(g, x[0], data.floats({9}, test::normal(9, 2), "weight"), eps);
    });
    test::check_gradients({{"weight", {9}, test::normal(9, 2), true}},
                          [](Graph& g, test::Tensors& data, const std::vector<Tensor>& w) {
                              return rms_norm(g, data.floats({3, 9}, test::normal(27, 1), "x"), w[0], eps);
                          });
}

TEST(RmsNorm, GradientsAreTheSameBitsEachTime) {
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    Tensor x = data.floats({1000, 65}, test::normal(65000, 1), "x"), w = data.floats({65}, test::normal(65, 2), "w");
    Tensor dw = data.parameter_gradient(w);
    g.backward(rms_norm(g, x, w, eps), data.floats({1000, 65}, test::normal(65000, 3), "dy"));
    Executable executable(g, "test");
    executable.run();
    auto first = data.read(dw);
    for (int i = 0; i < 5; i++) {
        executable.run();
        EXPECT_EQ(data.read(dw), first);
    }
}

TEST(RmsNorm, RefusesWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor x = data.floats({2, 3}, test::normal(6, 1), "x"), w = data.floats({3}, test::normal(3, 1), "w");
    EXPECT_THROW(rms_norm(g, x, data.floats({2}, {1, 1}, "short"), eps), Error);
    EXPECT_THROW(rms_norm(g, x, data.ints({3}, {1, 1, 1}, "ints"), eps), Error);
    EXPECT_THROW(rms_norm(g, x, w, -1), Error);
    EXPECT_THROW(rms_norm(g, x, w, std::nanf("")), Error);
    EXPECT_THROW(rms_norm(g, x, {}, eps), Error);
    EXPECT_THROW(rms_norm(g, {}, w, eps), Error);
}

}  // namespace
}  // namespace vkqat

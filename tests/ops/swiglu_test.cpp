#include "runtime/ops/swiglu.h"

#include "runtime/ops/cast.h"
#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Case {
    std::vector<float> gate, up, dy;
    std::vector<double> y, dgate, dup;
};
Case make_case(size_t count) {
    Case c{test::normal(count, 1, 3), test::normal(count, 2), test::normal(count, 3), {}, {}, {}};
    for (size_t i = 0; i < count; i++) {
        double g = c.gate[i], s = sigmoid(g);
        c.y.push_back(g * s * c.up[i]);
        c.dgate.push_back(c.dy[i] * double(c.up[i]) * s * (1 + g * (1 - s)));
        c.dup.push_back(c.dy[i] * g * s);
    }
    return c;
}

TEST(Swiglu, MatchesDoublePrecisionForwardAndBackward) {
    for (int64_t tokens : {1, 3, 129})
        for (int64_t ffn : {1, 7, 64, 172, 1000}) {
            SCOPED_TRACE(testing::Message() << tokens << " x " << ffn);
            Case c = make_case(size_t(tokens * ffn));
            Graph g(test::device(), Graph::Mode::training);
            test::Tensors data(g);
            Tensor gate = data.floats({tokens, ffn}, c.gate, "gate"), up = data.floats({tokens, ffn}, c.up, "up");
            Tensor dgate = data.parameter_gradient(gate), dup = data.parameter_gradient(up);
            Tensor y = swiglu(g, gate, up);
            g.keep(y);
            g.backward(y, data.floats({tokens, ffn}, c.dy, "dy"));
            Executable executable(g, "test");
            executable.run();
            // exp, a division and two products: a few roundings of 6e-8 each.
            EXPECT_LT(test::relative_error(test::read_floats(executable, y), c.y), 1e-6);
            EXPECT_LT(test::relative_error(data.read(dgate), c.dgate), 1e-6);
            EXPECT_LT(test::relative_error(data.read(dup), c.dup), 1e-6);
        }
}

TEST(Swiglu, FusedMatchesSeparate) {
    for (int64_t tokens : {1, 3, 129})
        for (int64_t ffn : {1, 7, 64, 172, 1000}) {
            SCOPED_TRACE(testing::Message() << tokens << " x " << ffn);
            Case c = make_case(size_t(tokens * ffn));
            auto fuse = [&](const auto& a, const auto& b) {
                auto both = a;
                both.clear();
                for (int64_t t = 0; t < tokens; t++) {
                    both.insert(both.end(), a.begin() + t * ffn, a.begin() + (t + 1) * ffn);
                    both.insert(both.end(), b.begin() + t * ffn, b.begin() + (t + 1) * ffn);
                }
                return both;
            };
            Graph g(test::device(), Graph::Mode::training);
            test::Tensors data(g);
            Tensor gate_up = data.floats({tokens, 2 * ffn}, fuse(c.gate, c.up), "gate_up");
            Tensor gradient = data.parameter_gradient(gate_up);
            Tensor y = swiglu(g, gate_up);
            g.keep(y);
            g.backward(y, data.floats({tokens, ffn}, c.dy, "dy"));
            Executable executable(g, "test");
            executable.run();
            EXPECT_LT(test::relative_error(test::read_floats(executable, y), c.y), 1e-6);
            EXPECT_LT(test::relative_error(data.read(gradient), fuse(c.dgate, c.dup)), 1e-6);
        }
}

// The type's unit of rounding, half of its distance of numbers.
double unit(DType type) { return type == DType::f16 ? 0x1p-11 : 0x1p-8; }

TEST(Swiglu, In16BitsItWorksOnRoundedInputsForwardAndBackward) {
    const int64_t tokens = 5, ffn = 40;
    for (DType type : {DType::f16, DType::bf16}) {
        Graph g(test::device(), Graph::Mode::training);
        test::Tensors data(g);
        Tensor values = data.floats({tokens, 2 * ffn}, test::normal(size_t(tokens * 2 * ffn), 5), "values", type);
        const std::vector<float> rounded = data.read(values);
        Tensor gate_up = data.floats({tokens, 2 * ffn}, rounded, "gate_up"), gradient = data.parameter_gradient(gate_up);
        const std::vector<float> dy = test::normal(size_t(tokens * ffn), 6);
        Tensor y = swiglu(g, gate_up, type);
        ASSERT_EQ(y.dtype(), type);
        g.recompute(y);
        Tensor read = cast(g, y, DType::f32);
        g.keep(read);
        Tensor d = data.floats({tokens, ffn}, dy, "dy");
        g.backward(y, d);
        Executable executable(g, "test");
        executable.run();
        std::vector<double> expected, expected_gradient(size_t(tokens * 2 * ffn));
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t i = 0; i < ffn; i++) {
                const size_t gate = size_t(t * 2 * ffn + i), up = gate + size_t(ffn);
                const double x = rounded[gate], u = rounded[up], s = 1 / (1 + std::exp(-x)), e = dy[size_t(t * ffn + i)];
                expected.push_back(x * s * u);
                expected_gradient[gate] = e * u * s * (1 + x * (1 - s));
                expected_gradient[up] = e * x * s;
            }
        EXPECT_LT(test::relative_error(test::read_floats(executable, read), expected), unit(type));
        EXPECT_LT(test::relative_error(data.read(gradient), expected_gradient), 1e-6);
    }
}

TEST(Swiglu, LargeInputsStayFinite) {
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    std::vector<float> x = {-1e4f, -200, -90, -30, 30, 90, 200, 1e4f};
    Tensor gate = data.floats({1, 8}, x, "gate"), up = data.floats({1, 8}, std::vector<float>(8, 1), "up");
    Tensor dgate = data.parameter_gradient(gate), dup = data.parameter_gradient(up);
    Tensor y = swiglu(g, gate, up);
    g.keep(y);
    g.backward(y, data.floats({1, 8}, std::vector<float>(8, 1), "dy"));
    Executable executable(g, "test");
    executable.run();
    auto values = test::read_floats(executable, y), dg = data.read(dgate), du = data.read(dup);
    for (size_t i = 0; i < 8; i++) {
        float step = x[i] > 0;
        EXPECT_NEAR(values[i], step * x[i], 1e-5 * std::abs(x[i]) * step + 1e-10);
        EXPECT_NEAR(du[i], step * x[i], 1e-5 * std::abs(x[i]) * step + 1e-10);
        EXPECT_NEAR(dg[i], step, 1e-5);
    }
}

TEST(Swiglu, GradientsInTheMiddleOfAGraph) {
    test::check_gradients({{"gate", {5, 37}, test::normal(185, 1)}, {"up", {5, 37}, test::normal(185, 2)}},
                          [](Graph& g, test::Tensors&, const std::vector<Tensor>& x) { return swiglu(g, x[0], x[1]); });
    test::check_gradients({{"gate_up", {5, 74}, test::normal(370, 1)}},
                          [](Graph& g, test::Tensors&, const std::vector<Tensor>& x) { return swiglu(g, x[0]); });
}

TEST(Swiglu, OneInputMayBeConstant) {
    for (bool swap : {false, true})
        test::check_gradients({{"x", {3, 9}, test::normal(27, 1)}},
                              [=](Graph& g, test::Tensors& data, const std::vector<Tensor>& x) {
                                  Tensor other = data.floats({3, 9}, test::normal(27, 2), "other");
                                  return swap ? swiglu(g, other, x[0]) : swiglu(g, x[0], other);
                              });
}

TEST(Swiglu, RefusesWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor a = data.floats({2, 3}, test::normal(6, 1), "a"), b = data.floats({3, 2}, test::normal(6, 1), "b");
    EXPECT_THROW(swiglu(g, a, b), Error);
    EXPECT_THROW(swiglu(g, a, a), Error);
    EXPECT_THROW(swiglu(g, a), Error);
    EXPECT_THROW(swiglu(g, Tensor()), Error);
}

}  // namespace
}  // namespace vkqat

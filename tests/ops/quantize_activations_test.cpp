#include "runtime/ops/quantize_activations.h"

#include <algorithm>
#include <cmath>

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

std::vector<double> reference(const std::vector<float>& x, size_t dim) {
    std::vector<double> y(x.size());
    for (size_t first = 0; first < x.size(); first += dim) {
        float largest = 1e-5f;
        for (size_t i = first; i < first + dim; i++) largest = std::max(largest, std::abs(x[i]));
        const float scale = 127 / largest;
        for (size_t i = first; i < first + dim; i++) y[i] = std::clamp(std::nearbyint(x[i] * scale), -128.f, 127.f) / scale;
    }
    return y;
}

TEST(QuantizeActivations, MatchesItsDefinition) {
    for (int64_t tokens : {1, 3, 129})
        for (int64_t dim : {1, 7, 64, 172, 5000}) {
            SCOPED_TRACE(testing::Message() << tokens << " x " << dim);
            Graph g(test::device());
            test::Tensors data(g);
            Tensor x = data.floats({tokens, dim}, test::normal(size_t(tokens * dim), 1, 3), "x"), y = quantize_activations(g, x);
            g.keep(y);
            Executable executable(g, "test");
            executable.run();
            EXPECT_LT(test::relative_error(test::read_floats(executable, y), reference(data.read(x), size_t(dim))), 1e-6);
        }
}

TEST(QuantizeActivations, TakesZerosAndGivesTheLargestBack) {
    Graph g(test::device());
    test::Tensors data(g);
    std::vector<float> values(24, 0);
    values[9] = -3.25f;
    Tensor y = quantize_activations(g, data.floats({3, 8}, values, "x"));
    g.keep(y);
    Executable executable(g, "test");
    executable.run();
    auto found = test::read_floats(executable, y);
    for (size_t i = 0; i < found.size(); i++) EXPECT_NEAR(found[i], values[i], 1e-6);
}

TEST(QuantizeActivations, GradientIsThatOfTheOutput) {
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    Tensor p = data.floats({3, 16}, test::normal(48, 1), "p"), dy = data.floats({3, 16}, test::normal(48, 2), "dy"), passed;
    data.parameter_gradient(p);
    Tensor x = g.like(p, "x");
    g.on_backward(x, {p}, [&](Graph&, Tensor dx) { passed = dx; });
    g.backward(quantize_activations(g, x), dy);
    EXPECT_TRUE(passed == dy);
}

TEST(QuantizeActivations, RefusesWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    EXPECT_THROW(quantize_activations(g, {}), Error);
    EXPECT_THROW(quantize_activations(g, data.floats({2, 3}, test::normal(6, 1), "x", DType::bf16)), Error);
}

}  // namespace
}  // namespace vkqat

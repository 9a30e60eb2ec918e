#include "runtime/ops/matmul.h"

#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

struct Case {
    int64_t m, n, k;
};
const Case cases[] = {{1, 8, 32},  {1, 1, 1},    {1, 257, 130}, {2, 3, 5},    {7, 9, 11},     {8, 64, 16},
                      {33, 65, 31}, {64, 7, 128}, {5, 128, 64},  {96, 48, 100}, {130, 172, 64}, {17, 33, 1}};

std::vector<double> reference(Product product, const Case& c, const std::vector<float>& a, const std::vector<float>& b,
                              const std::vector<float>* base) {
    std::vector<double> out(size_t(c.m * c.n), 0);
    for (int64_t i = 0; i < c.m; i++)
        for (int64_t j = 0; j < c.n; j++) {
            double sum = base ? double((*base)[size_t(i * c.n + j)]) : 0;
            for (int64_t k = 0; k < c.k; k++) {
                float x = a[size_t(product == Product::tn ? k * c.m + i : i * c.k + k)];
                float y = b[size_t(product == Product::nt ? j * c.k + k : k * c.n + j)];
                sum += double(x) * double(y);
            }
            out[size_t(i * c.n + j)] = sum;
        }
    return out;
}

class Matmul : public testing::TestWithParam<std::tuple<Product, DType>> {};

TEST_P(Matmul, MatchesTheReferenceForOddShapesWithAndWithoutBase) {
    auto [product, type] = GetParam();
    uint32_t seed = 1;
    for (const Case& c : cases) {
        for (bool with_base : {false, true}) {
            Graph g(test::device());
            test::Tensors data(g);
            Shape a_shape = product == Product::tn ? Shape{c.k, c.m} : Shape{c.m, c.k};
            Shape b_shape = product == Product::nt ? Shape{c.n, c.k} : Shape{c.k, c.n};
            Tensor a = data.floats(a_shape, test::normal(size_t(a_shape.elements()), seed++), "a");
            Tensor b = data.floats(b_shape, test::normal(size_t(b_shape.elements()), seed++), "b", type);
            Tensor base;
            if (with_base) base = data.floats({c.m, c.n}, test::normal(size_t(c.m * c.n), seed++), "base");
            Tensor y = data.poisoned({c.m, c.n}, "y");
            matmul(g, product, a, b, base, y, "matmul");
            Executable(g, "matmul").run();
            std::vector<float> base_values;
            if (with_base) base_values = data.read(base);
            auto expected = reference(product, c, data.read(a), data.read(b), with_base ? &base_values : nullptr);
            // fp32 sums of up to 130 products: some ulps.
            EXPECT_LT(test::relative_error(data.read(y), expected), 2e-6) << c.m << " x " << c.n << " x " << c.k;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, Matmul,
                         testing::Values(std::tuple(Product::nt, DType::f32), std::tuple(Product::nt, DType::f16),
                                         std::tuple(Product::nt, DType::bf16), std::tuple(Product::nn, DType::f32),
                                         std::tuple(Product::nn, DType::f16), std::tuple(Product::nn, DType::bf16),
                                         std::tuple(Product::tn, DType::f32)));

TEST(Linear, GradientsMatchFiniteDifferences) {
    test::check_gradients({{"x", {13, 20}, test::normal(260, 5)}, {"w", {9, 20}, test::normal(180, 6), true}},
                          [](Graph& g, test::Tensors&, const std::vector<Tensor>& in) { return linear(g, in[0], in[1], "y"); });
}

TEST(Linear, InnerSizesThatDifferAreAnError) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor x = data.floats({2, 3}, std::vector<float>(6), "x"), w = data.floats({4, 5}, std::vector<float>(20), "w");
    EXPECT_THROW(linear(g, x, w, "y"), Error);
}

}  // namespace
}  // namespace vkqat

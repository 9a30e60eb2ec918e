#include "runtime/ops/add.h"

#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

TEST(Add, SumsEveryElement) {
    for (int64_t n : {1, 7, 63, 64, 65, 1000}) {
        Graph g(test::device());
        test::Tensors data(g);
        Tensor a = data.floats({3, n}, test::normal(size_t(3 * n), 1), "a"),
               b = data.floats({3, n}, test::normal(size_t(3 * n), 2), "b");
        Tensor y = add(g, a, b, "sum");
        g.keep(y);
        Executable executable(g, "test");
        executable.run();
        auto x = data.read(a), z = data.read(b), sum = test::read_floats(executable, y);
        for (size_t i = 0; i < sum.size(); i++) EXPECT_EQ(sum[i], x[i] + z[i]) << i;
    }
}

TEST(Add, HasTheGradientOfBothInputs) {
    test::check_gradients({{"a", {3, 37}, test::normal(111, 1)}, {"b", {3, 37}, test::normal(111, 2)}},
                          [](Graph& g, test::Tensors&, const std::vector<Tensor>& x) { return add(g, x[0], x[1]); });
}

TEST(Add, RefusesWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor a = data.floats({2, 3}, test::normal(6, 1), "a"), b = data.floats({3, 2}, test::normal(6, 1), "b");
    Tensor half = data.floats({2, 3}, test::normal(6, 1), "half", DType::f16);
    EXPECT_THROW(add(g, a, b), Error);
    EXPECT_THROW(add(g, a, half), Error);
    EXPECT_THROW(add(g, half, half), Error);
    EXPECT_THROW(add(g, a, {}), Error);
}

}  // namespace
}  // namespace vkqat

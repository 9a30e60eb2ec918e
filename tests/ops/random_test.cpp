#include "runtime/ops/random.h"

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

TEST(RandomFill, NumbersLieBetweenTheBoundsAndSpreadEvenly) {
    for (DType type : {DType::f32, DType::f16, DType::bf16}) {
        Graph g(test::device());
        test::Tensors data(g);
        Tensor a = data.poisoned({40, 200}, "a", type), b = data.poisoned({40, 200}, "b", type),
               c = data.poisoned({40, 200}, "c", type);
        random_fill(g, a, 1, -2, 4);
        random_fill(g, b, 1, -2, 4);
        random_fill(g, c, 2, -2, 4);
        Executable(g, "random").run();
        std::vector<float> x = data.read(a);
        EXPECT_EQ(x, data.read(b));
        EXPECT_NE(x, data.read(c));
        double sum = 0, squares = 0;
        for (float v : x) {
            ASSERT_GE(v, -2);
            ASSERT_LE(v, 4);
            sum += v;
            squares += double(v) * v;
        }
        // Mean 1, mean of squares 4; 8000 numbers: 5 standard errors are 0.1 and 0.25.
        EXPECT_NEAR(sum / 8000, 1, 0.1);
        EXPECT_NEAR(squares / 8000, 4, 0.25);
    }
}

TEST(RandomFill, BitsAreSetHalfOfTheTime) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor a = data.poisoned({4096}, "a", DType::u32);
    random_fill(g, a, 7);
    Executable(g, "random").run();
    std::vector<int32_t> x = data.read_ints(a);
    for (int bit = 0; bit < 32; bit++) {
        int set = 0;
        for (int32_t v : x) set += uint32_t(v) >> bit & 1;
        EXPECT_NEAR(set, 2048, 160) << "bit " << bit;  // 5 standard errors
    }
}

TEST(RandomFill, ErrorsOnOddSizes) {
    Graph g(test::device());
    test::Tensors data(g);
    EXPECT_THROW(random_fill(g, data.poisoned({3}, "a"), 1), Error);
}

}  // namespace
}  // namespace vkqat

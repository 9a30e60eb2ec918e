#include <cstring>
#include <limits>

#include "runtime/ops/cast.h"
#include "runtime/ops/fill.h"
#include "tests/support/gpu.h"

namespace vkqat {
namespace {

TEST(Fill, WritesEveryElementAndNoneBehind) {
    for (int64_t n : {1, 7, 64, 172, 1000, 70001}) {
        Graph g(test::device());
        test::Tensors data(g);
        Tensor whole = data.poisoned({n + 5}, "t", DType::i32);
        fill(g, g.view(whole, 4, {n}, "part"), 0x12345678u);
        Executable(g, "test").run();
        auto values = data.read_ints(whole);
        EXPECT_EQ(values[0], -1);
        for (int64_t i = 1; i <= n; i++) ASSERT_EQ(values[size_t(i)], 0x12345678) << i << " of " << n;
        for (int64_t i = n + 1; i < n + 5; i++) EXPECT_EQ(values[size_t(i)], -1) << i << " of " << n;
    }
}

TEST(Fill, TakesFloatsAndRefuses16BitTypes) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor t = data.poisoned({3, 5}, "t");
    fill(g, t, -2.5f);
    Executable(g, "test").run();
    for (float v : data.read(t)) EXPECT_EQ(v, -2.5f);
    EXPECT_THROW(fill(g, data.poisoned({4}, "h", DType::bf16), 0u), Error);
}

std::vector<float> values(size_t count) {
    std::vector<float> x = test::normal(count, 5);
    for (size_t i = 0; i < count; i++) x[i] *= std::exp2(float(int(i % 40) - 25));  // f16: subnormal to large
    return x;
}

TEST(Cast, RoundsToBf16AsTheCpuDoes) {
    for (int64_t n : {1, 7, 64, 172, 1000}) {
        Graph g(test::device());
        test::Tensors data(g);
        auto x = values(size_t(n));
        x[0] = std::bit_cast<float>(0x3f808000u);  // half-way: to even
        if (n > 2) x[1] = std::bit_cast<float>(0x3f818000u), x[2] = std::numeric_limits<float>::infinity();
        Tensor y = cast(g, data.floats({n}, x, "x"), DType::bf16);
        g.keep(y);
        Executable executable(g, "test");
        executable.run();
        auto result = test::read_floats(executable, y);
        for (size_t i = 0; i < x.size(); i++) ASSERT_EQ(result[i], bf16_to_f32(f32_to_bf16(x[i]))) << x[i];
    }
}

TEST(Cast, RoundsToOneOfTheTwoNearestF16) {
    Graph g(test::device());
    test::Tensors data(g);
    auto x = values(1000);
    Tensor y = cast(g, data.floats({1000}, x, "x"), DType::f16);
    g.keep(y);
    Executable executable(g, "test");
    executable.run();
    auto result = test::read_floats(executable, y);
    // Vulkan leaves the rounding to the device: less than a unit in the last place, 2^-24 for subnormals.
    for (size_t i = 0; i < x.size(); i++) ASSERT_NEAR(result[i], x[i], std::max(std::abs(x[i]) * 0x1p-10f, 0x1p-24f)) << x[i];
}

TEST(Cast, To32BitsIsExact) {
    for (DType type : {DType::f16, DType::bf16}) {
        Graph g(test::device());
        test::Tensors data(g);
        Tensor x = data.floats({11, 13}, test::normal(143, 5), "x", type);
        Tensor y = cast(g, x, DType::f32);
        g.keep(y);
        EXPECT_EQ(y.shape(), x.shape());
        Executable executable(g, "test");
        executable.run();
        EXPECT_EQ(test::read_floats(executable, y), data.read(x));
    }
}

TEST(Cast, CopiesAndRefusesOtherPairs) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor x = data.floats({7, 41}, test::normal(287, 5), "x"), y = data.poisoned({7, 41}, "y");
    copy(g, x, y);
    Executable(g, "test").run();
    EXPECT_EQ(data.read(x), data.read(y));
    EXPECT_EQ(cast(g, x, DType::f32), x);
    EXPECT_THROW(cast(g, x, DType::i32), Error);
    EXPECT_THROW(cast(g, data.poisoned({2}, "h", DType::f16), DType::bf16), Error);
    EXPECT_THROW(copy(g, x, data.poisoned({41, 7}, "z")), Error);
}

}  // namespace
}  // namespace vkqat

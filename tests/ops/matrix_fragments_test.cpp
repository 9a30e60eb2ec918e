#include "runtime/ops/matrix_fragments.h"

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

TEST(MatrixFragments, LieWhereTheyAreSaidToLie) {
    if (!known_matrix_fragments(test::device().capabilities()))
        GTEST_SKIP() << test::device().capabilities().name << " is no device whose matrices' elements are known";
    Graph g(test::device());
    Tensor numbers = matrix_fragments(g);
    g.keep(numbers);
    Executable executable(g, "matrix_fragments");
    executable.run();
    std::vector<float> expected;
    for (int lane = 0; lane < 32; lane++) {
        const int group = lane / 4, q = lane % 4;
        for (int i = 0; i < 8; i++) expected.push_back(float(16 * (group + i / 4 * 8) + 2 * q + i % 2 + i / 2 % 2 * 8));
        for (int i = 0; i < 4; i++) expected.push_back(float(8 * (2 * q + i % 2 + i / 2 * 8) + group));
        for (int i = 0; i < 4; i++) expected.push_back(float(8 * (group + i / 2 * 8) + 2 * q + i % 2));
    }
    EXPECT_EQ(test::read_floats(executable, numbers), expected);
}

}  // namespace
}  // namespace vkqat

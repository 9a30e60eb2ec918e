#include "shaders/args/add.h"
#include "tests/support/gpu.h"

namespace vkqat {
namespace {

Tensor add(Graph& g, Tensor a, Tensor b, const std::string& name) {
    Tensor y = g.like(a, name);
    g.dispatch(Kernel{"add", {64}}, {in(a), in(b), out(y)}, AddArgs{.count = uint32_t(a.elements())},
               linear_grid((a.elements() + 63) / 64), name, {.flops = double(a.elements())});
    g.on_backward(y, {a, b}, [=](Graph& graph, Tensor dy) {
        graph.pass_gradient(a, dy);
        graph.pass_gradient(b, dy);
    });
    return y;
}

TEST(Graph, RunsNodesInOrderAndReplays) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor a = data.floats({3, 37}, test::normal(111, 1), "a");
    Tensor b = add(g, a, a, "b");
    Tensor c = add(g, b, a, "c");
    g.keep(c);
    Executable executable(g, "test");
    for (int round = 0; round < 3; round++) executable.run();
    auto x = data.read(a), y = test::read_floats(executable, c);
    for (size_t i = 0; i < x.size(); i++) EXPECT_FLOAT_EQ(y[i], 3 * x[i]);
    EXPECT_EQ(executable.barrier_count(), 1u);
}

TEST(Graph, MemoryOfDeadTensorsIsUsedAgain) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor a = data.floats({1024}, test::normal(1024, 2), "a");
    Tensor x = a;
    for (int i = 0; i < 10; i++) x = add(g, x, a, "x" + std::to_string(i));
    g.keep(x);
    Executable executable(g, "test");
    executable.run();
    EXPECT_EQ(executable.arena_bytes(), 2 * 4096u);
    auto first = data.read(a), last = test::read_floats(executable, x);
    for (size_t i = 0; i < first.size(); i++) EXPECT_NEAR(last[i], 11 * first[i], 1e-5 * std::abs(11 * first[i]));
}

TEST(Graph, GradientsOfSharedTensorsAddUp) {
    // y = (a + a) + (a + b): dy/da = 3, dy/db = 1; the residual's gradient memory is shared and copied on write.
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    Tensor one = data.floats({70}, std::vector<float>(70, 1), "one");
    Tensor a = add(g, one, one, "a");
    Tensor dummy = data.floats({70}, std::vector<float>(70, 0), "w");
    Tensor dummy_gradient = data.parameter_gradient(dummy);
    Tensor p = g.like(one, "p");
    g.dispatch(Kernel{"add", {64}}, {in(a), in(dummy), out(p)}, AddArgs{.count = 70}, linear_grid(2), "p");
    g.on_backward(p, {dummy}, [=](Graph& graph, Tensor dy) {
        GradientSlot slot = graph.gradient_slot(dummy);
        graph.dispatch(Kernel{"add", {64}}, {in(one), in(dy), out(slot.out)}, AddArgs{.count = 70}, linear_grid(2), "dp");
    });
    Tensor s = add(g, p, p, "s");
    Tensor t = add(g, p, one, "t");
    Tensor y = add(g, s, t, "y");
    g.backward(y, one);
    Executable executable(g, "test");
    executable.run();
    for (float d : data.read(dummy_gradient)) EXPECT_FLOAT_EQ(d, 1 + 3);
}

TEST(Graph, WrongNumberOfTensorsIsAnError) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor a = data.floats({4}, {1, 2, 3, 4}, "a");
    EXPECT_THROW(g.dispatch(Kernel{"add", {64}}, {in(a)}, AddArgs{.count = 4}, Grid{}, "bad"), Error);
    EXPECT_THROW(g.dispatch(Kernel{"no_such_shader", {64}}, {in(a), in(a), out(a)}, AddArgs{.count = 4}, Grid{}, "bad"), Error);
}

TEST(Graph, ReadersOfAnAddressTableWaitForWhatIsInIt) {
    for (bool in_table : {true, false}) {
        Graph g(test::device());
        test::Tensors data(g);
        Tensor a = data.floats({4}, {1, 2, 3, 4}, "a"), written = data.poisoned({4}, "written"),
               y = g.tensor({2}, DType::f32, "y");
        Tensor table = g.address_table({in(in_table ? written : a)}, "table");
        g.dispatch(Kernel{"add", {64}}, {in(a), in(a), out(written)}, AddArgs{.count = 4}, Grid{}, "writes");
        g.dispatch(Kernel{"add", {64}}, {in(table), in(table), out(y)}, AddArgs{.count = 2}, Grid{}, "reads the table");
        Executable executable(g, "test");
        executable.run();
        EXPECT_EQ(executable.barrier_count(), in_table ? 1u : 0u);
        EXPECT_THROW(g.address_table({in(y)}, "of a planned tensor"), Error);
    }
}

TEST(Graph, ReadingWhatNobodyWroteIsAnError) {
    Graph g(test::device());
    Tensor a = g.tensor({8}, DType::f32, "a");
    add(g, a, a, "y");
    EXPECT_THROW(Executable(g, "test"), Error);
}

TEST(Graph, ProfileNamesEveryNode) {
    Graph g(test::device());
    test::Tensors data(g);
    g.set_scope("layer");
    Tensor a = data.floats({4096}, test::normal(4096, 3), "a");
    add(g, a, a, "y");
    Executable executable(g, "test");
    if (test::device().capabilities().timestamp_period_ns == 0) GTEST_SKIP() << "no timestamps";
    auto rows = executable.profile();
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].label, "layer.y");
    EXPECT_GT(rows[0].seconds, 0);
    EXPECT_EQ(rows[0].bytes, 3 * 4096 * 4);
}

}  // namespace
}  // namespace vkqat

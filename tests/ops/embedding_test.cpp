#include "runtime/ops/embedding.h"

#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

// Few different ids, so that some are frequent and others do not occur.
std::vector<int32_t> make_ids(int64_t tokens, int64_t vocab, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < tokens; t++) ids.push_back(int32_t(random() % 3 == 0 ? vocab - 1 : random() % vocab));
    return ids;
}

std::vector<double> gradient_reference(const std::vector<int32_t>& ids, const std::vector<float>& dy, int64_t vocab,
                                       int64_t dim) {
    std::vector<double> d(size_t(vocab * dim));
    for (size_t t = 0; t < ids.size(); t++)
        if (ids[t] >= 0 && ids[t] < vocab)
            for (int64_t i = 0; i < dim; i++) d[size_t(ids[t] * dim + i)] += dy[t * size_t(dim) + size_t(i)];
    return d;
}

TEST(Embedding, ReadsRowsExactly) {
    for (DType type : {DType::f32, DType::f16, DType::bf16})
        for (int64_t tokens : {1, 3, 129})
            for (int64_t dim : {1, 7, 64, 172, 1000}) {
                SCOPED_TRACE(testing::Message() << tokens << " x " << dim << " " << name(type));
                Graph g(test::device());
                test::Tensors data(g);
                auto ids = make_ids(tokens, 23, 1);
                Tensor weight = data.floats({23, dim}, test::normal(size_t(23 * dim), 2), "weight", type);
                Tensor y = embedding(g, data.ints({tokens}, ids, "ids"), weight);
                g.keep(y);
                Executable executable(g, "test");
                executable.run();
                auto w = data.read(weight), result = test::read_floats(executable, y);
                for (int64_t t = 0; t < tokens; t++)
                    for (int64_t i = 0; i < dim; i++)
                        ASSERT_EQ(result[size_t(t * dim + i)], w[size_t(ids[size_t(t)] * dim + i)]) << t << ", " << i;
            }
}

TEST(Embedding, UnknownIdsGiveZerosAndNoGradient) {
    std::vector<int32_t> ids = {0, -1, 5, 2147483647, 4, -2147483647 - 1, 4};
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    Tensor weight = data.floats({5, 9}, test::normal(45, 1), "weight"), dw = data.parameter_gradient(weight);
    auto order = sort_by_id(ids);
    Tensor y = embedding(g, data.ints({7}, ids, "ids"), weight, data.ints({7}, order, "order"));
    g.keep(y);
    auto dy = test::normal(63, 2);
    g.backward(y, data.floats({7, 9}, dy, "dy"));
    Executable executable(g, "test");
    executable.run();
    auto w = data.read(weight), result = test::read_floats(executable, y);
    for (size_t t = 0; t < 7; t++)
        for (size_t i = 0; i < 9; i++) {
            bool known = ids[t] >= 0 && ids[t] < 5;
            EXPECT_EQ(result[t * 9 + i], known ? w[size_t(ids[t]) * 9 + i] : 0) << t;
        }
    EXPECT_LT(test::relative_error(data.read(dw), gradient_reference(ids, dy, 5, 9)), 1e-6);
}

TEST(Embedding, GradientSumsTokensOfAnId) {
    for (int64_t tokens : {1, 3, 129, 1000})
        for (int64_t dim : {1, 7, 64, 172, 1000}) {
            SCOPED_TRACE(testing::Message() << tokens << " x " << dim);
            Graph g(test::device(), Graph::Mode::training);
            test::Tensors data(g);
            auto ids = make_ids(tokens, 23, 3);
            auto dy = test::normal(size_t(tokens * dim), 4);
            Tensor weight = data.floats({23, dim}, test::normal(size_t(23 * dim), 2), "weight"),
                   dw = data.parameter_gradient(weight);
            Tensor y = embedding(g, data.ints({tokens}, ids, "ids"), weight, data.ints({tokens}, sort_by_id(ids), "order"));
            g.backward(y, data.floats({tokens, dim}, dy, "dy"));
            Executable executable(g, "test");
            for (int i = 0; i < 2; i++) executable.run();  // the second replaces, it does not add
            auto expected = gradient_reference(ids, dy, 23, dim);
            // Up to some 340 terms of one id, added one after another.
            EXPECT_LT(test::relative_error(data.read(dw), expected), 2e-6);
            auto result = data.read(dw);
            for (size_t i = 0; i < expected.size(); i++) ASSERT_TRUE(expected[i] != 0 || result[i] == 0) << i;
        }
}

TEST(Embedding, AccumulatesOntoAnEarlierGradient) {
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    std::vector<int32_t> ids = {2, 0, 2};
    Tensor weight = data.floats({4, 5}, test::normal(20, 1), "weight"),
           gradient = data.floats({4, 5}, test::normal(20, 2), "gradient");
    g.set_parameter(weight, gradient, true);
    auto before = data.read(gradient), dy = test::normal(15, 3);
    Tensor y = embedding(g, data.ints({3}, ids, "ids"), weight, data.ints({3}, sort_by_id(ids), "order"));
    g.backward(y, data.floats({3, 5}, dy, "dy"));
    Executable(g, "test").run();
    auto expected = gradient_reference(ids, dy, 4, 5);
    for (size_t i = 0; i < 20; i++) expected[i] += before[i];
    EXPECT_LT(test::relative_error(data.read(gradient), expected), 1e-6);
}

TEST(Embedding, GradientsInTheMiddleOfAGraph) {
    std::vector<int32_t> ids = {3, 1, 3, 3, 0, 6, 3, 1, 3};
    for (bool parameter : {false, true})
        test::check_gradients({{"weight", {7, 11}, test::normal(77, 1), parameter}},
                              [&](Graph& g, test::Tensors& data, const std::vector<Tensor>& w) {
                                  return embedding(g, data.ints({9}, ids, "ids"), w[0], data.ints({9}, sort_by_id(ids), "order"));
                              });
}

TEST(Embedding, SortKeepsTokensOfAnIdInOrder) {
    EXPECT_EQ(sort_by_id(std::vector<int32_t>{5, -1, 5, 0, 5, 0}), (std::vector<int32_t>{1, 3, 5, 0, 2, 4}));
    EXPECT_TRUE(sort_by_id({}).empty());
}

TEST(Embedding, RefusesWhatDoesNotFit) {
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    Tensor weight = data.floats({4, 5}, test::normal(20, 1), "weight"), ids = data.ints({2}, {0, 1}, "ids");
    EXPECT_THROW(embedding(g, data.floats({2}, {0, 1}, "floats"), weight), Error);
    EXPECT_THROW(embedding(g, ids, data.ints({4, 5}, std::vector<int32_t>(20), "ints")), Error);
    EXPECT_THROW(embedding(g, ids, weight, data.ints({3}, {0, 1, 2}, "order")), Error);
    EXPECT_NO_THROW(embedding(g, ids, weight));
    data.parameter_gradient(weight);
    EXPECT_THROW(embedding(g, ids, weight), Error);
}

}  // namespace
}  // namespace vkqat

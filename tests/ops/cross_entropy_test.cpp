#include "runtime/ops/cross_entropy.h"

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

struct Expected {
    std::vector<double> rows, d_hidden, d_head;
    double sum = 0;
};

Expected reference(int64_t tokens, int64_t dim, int64_t vocab, const std::vector<float>& hidden, const std::vector<float>& head,
                   const std::vector<int32_t>& labels, double scale) {
    Expected e{std::vector<double>(size_t(tokens), 0), std::vector<double>(hidden.size(), 0),
               std::vector<double>(head.size(), 0)};
    for (int64_t t = 0; t < tokens; t++) {
        if (labels[size_t(t)] < 0) continue;
        std::vector<double> logits(size_t(vocab), 0);
        double highest = -1e300, sum = 0;
        for (int64_t v = 0; v < vocab; v++) {
            for (int64_t i = 0; i < dim; i++)
                logits[size_t(v)] += double(hidden[size_t(t * dim + i)]) * head[size_t(v * dim + i)];
            highest = std::max(highest, logits[size_t(v)]);
        }
        for (double l : logits) sum += std::exp(l - highest);
        e.rows[size_t(t)] = std::log(sum) + highest - logits[size_t(labels[size_t(t)])];
        e.sum += scale * e.rows[size_t(t)];
        for (int64_t v = 0; v < vocab; v++) {
            double d = scale * (std::exp(logits[size_t(v)] - highest) / sum - (v == labels[size_t(t)] ? 1 : 0));
            for (int64_t i = 0; i < dim; i++) {
                e.d_hidden[size_t(t * dim + i)] += d * head[size_t(v * dim + i)];
                e.d_head[size_t(v * dim + i)] += d * hidden[size_t(t * dim + i)];
            }
        }
    }
    return e;
}

TEST(CrossEntropy, GradientsOfEveryTypeAndLongRows) {
    const int64_t rows = 3, vocab = 3001;
    const auto values = test::normal(size_t(rows * vocab), 9, 3);
    const std::vector<int32_t> labels{17, -1, 3000};
    const float scale = 0.5f;
    for (DType type : {DType::f32, DType::f16, DType::bf16}) {
        Graph g(test::device());
        test::Tensors data(g);
        Tensor logits = data.floats({rows, vocab}, values, "logits"), loss = data.poisoned({rows}, "loss");
        Tensor d = data.poisoned({rows, vocab}, "d", type);
        cross_entropy(g, logits, data.ints({rows}, labels, "labels"), loss, data.floats({1}, {scale}, "scale"), d);
        Executable(g, "test").run();
        std::vector<double> expected_loss, expected;
        for (int64_t r = 0; r < rows; r++) {
            double sum = 0;
            for (int64_t v = 0; v < vocab; v++) sum += std::exp(double(values[size_t(r * vocab + v)]));
            const int32_t label = labels[size_t(r)];
            expected_loss.push_back(label < 0 ? 0 : std::log(sum) - values[size_t(r * vocab + label)]);
            for (int64_t v = 0; v < vocab; v++)
                expected.push_back(label < 0 ? 0
                                             : scale * (std::exp(double(values[size_t(r * vocab + v)])) / sum - (v == label)));
        }
        EXPECT_LT(test::relative_error(data.read(loss), expected_loss), 1e-6);
        EXPECT_LT(test::relative_error(data.read(d), expected), type == DType::f32   ? 1e-6
                                                                : type == DType::f16 ? 0x1p-11
                                                                                     : 0x1p-8);
    }
}

TEST(HeadLoss, LossAndGradientsMatchTheReferenceForAnyChunk) {
    const int64_t tokens = 37, dim = 24, vocab = 101;
    auto hidden_values = test::normal(tokens * dim, 1), head_values = test::normal(vocab * dim, 2, 0.5f);
    std::vector<int32_t> labels;
    for (int64_t t = 0; t < tokens; t++) labels.push_back(t % 5 == 3 ? -1 : int32_t((t * 31) % vocab));
    const float scale = 1.f / 29;
    Expected expected = reference(tokens, dim, vocab, hidden_values, head_values, labels, scale);
    for (int64_t chunk : {int64_t(1000), int64_t(16), int64_t(1)}) {
        Graph g(test::device(), Graph::Mode::training);
        test::Tensors data(g);
        Tensor hidden = data.floats({tokens, dim}, hidden_values, "hidden"),
               head = data.floats({vocab, dim}, head_values, "head");
        Tensor d_hidden = data.parameter_gradient(hidden), d_head = data.parameter_gradient(head);
        Tensor base = data.floats({1}, {0.5f}, "base"), sum = data.poisoned({1}, "sum");
        HeadLoss loss = head_loss(g, hidden, head, data.ints({tokens}, labels, "labels"), data.floats({1}, {scale}, "scale"),
                                  {.chunk_rows = chunk, .base = base, .sum = sum});
        g.keep(loss.rows);
        Executable executable(g, "head");
        executable.run();
        EXPECT_LT(test::relative_error(test::read_floats(executable, loss.rows), expected.rows), 2e-6);
        EXPECT_NEAR(data.read(sum)[0], 0.5 + expected.sum, 2e-6);
        EXPECT_LT(test::relative_error(data.read(d_hidden), expected.d_hidden), 5e-6);
        EXPECT_LT(test::relative_error(data.read(d_head), expected.d_head), 5e-6);
    }
}

TEST(HeadLoss, LargeLogitsDoNotOverflow) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor hidden = data.floats({2, 1}, {1000, -1000}, "hidden"), head = data.floats({3, 1}, {1, 2, -3}, "head");
    HeadLoss loss = head_loss(g, hidden, head, data.ints({2}, {1, 2}, "labels"), data.floats({1}, {1}, "scale"));
    g.keep(loss.rows);
    Executable executable(g, "head");
    executable.run();
    auto rows = test::read_floats(executable, loss.rows);
    EXPECT_FLOAT_EQ(rows[0], 0);
    EXPECT_FLOAT_EQ(rows[1], 0);
}

}  // namespace
}  // namespace vkqat

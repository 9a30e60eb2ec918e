#include "runtime/ops/distillation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/ops/matmul.h"
#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

constexpr DistillationLoss losses[] = {DistillationLoss::forward, DistillationLoss::reverse, DistillationLoss::jsd,
                                       DistillationLoss::tlsd, DistillationLoss::cakld};

std::vector<double> softmax(const double* x, size_t n) {
    const double highest = *std::max_element(x, x + n);
    std::vector<double> p(n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += p[i] = std::exp(x[i] - highest);
    for (double& v : p) v /= sum;
    return p;
}

double distance(DistillationLoss loss, const std::vector<double>& p, const std::vector<double>& q, double coefficient) {
    double forward = 0, reverse = 0, jsd = 0, soft = 0;
    for (size_t i = 0; i < p.size(); i++) {
        const double m = coefficient * q[i] + (1 - coefficient) * p[i];
        forward += q[i] * std::log(q[i] / p[i]);
        reverse += p[i] * std::log(p[i] / q[i]);
        jsd += coefficient * q[i] * std::log(q[i] / m) + (1 - coefficient) * p[i] * std::log(p[i] / m);
        soft -= q[i] * std::log(p[i]);
    }
    if (loss == DistillationLoss::jsd) return jsd;
    if (loss == DistillationLoss::tlsd) return soft;
    return coefficient * reverse + (1 - coefficient) * forward;
}

struct Model {  // a head for each, small enough for central differences
    size_t sequences, seq_len, dim, teacher_dim, vocab;
    std::vector<float> hidden, head, teacher_hidden, teacher_head;
    std::vector<int32_t> labels;
    std::vector<float> factors;
    size_t tokens() const { return sequences * seq_len; }
};
Model make_model(size_t sequences, size_t seq_len, size_t vocab) {
    Model m{sequences, seq_len, 12, 7, vocab, {}, {}, {}, {}, {}, {0.7f, 0.3f, 0.4f}};
    m.hidden = test::normal(m.tokens() * m.dim, 1), m.head = test::normal(vocab * m.dim, 2, 0.5f);
    m.teacher_hidden = test::normal(m.tokens() * m.teacher_dim, 3), m.teacher_head = test::normal(vocab * m.teacher_dim, 4, 0.5f);
    for (size_t i = 0; i < m.tokens(); i++) m.labels.push_back(i % 4 == 1 ? -100 : int32_t(i * 7 % vocab));
    return m;
}

std::vector<double> logits(const std::vector<float>& hidden, const std::vector<float>& head, size_t dim, size_t vocab) {
    std::vector<double> result(hidden.size() / dim * vocab);
    for (size_t t = 0; t < hidden.size() / dim; t++)
        for (size_t v = 0; v < vocab; v++)
            for (size_t i = 0; i < dim; i++) result[t * vocab + v] += double(hidden[t * dim + i]) * head[v * dim + i];
    return result;
}

struct Losses {
    std::vector<double> distance, entropy, confidence;
    double sum = 0;
};
// With `kept` > 0 the distributions are over so many tokens, the teacher's likeliest, and one class for all others.
Losses reference(DistillationLoss loss, const Model& m, size_t kept = 0) {
    auto s = logits(m.hidden, m.head, m.dim, m.vocab), t = logits(m.teacher_hidden, m.teacher_head, m.teacher_dim, m.vocab);
    Losses r;
    std::vector<double> teacher_loss(m.tokens()), weights;
    for (size_t i = 0; i < m.tokens(); i++) {
        auto p = softmax(&s[i * m.vocab], m.vocab), q = softmax(&t[i * m.vocab], m.vocab);
        const bool counts = m.labels[i] >= 0;
        const double coefficient = double(distillation_coefficient(loss, m.factors[2]));
        r.entropy.push_back(counts ? -std::log(p[size_t(m.labels[i])]) : 0);
        r.confidence.push_back(counts ? *std::max_element(q.begin(), q.end()) : 0);
        teacher_loss[i] = counts ? -std::log(q[size_t(m.labels[i])]) / 10 : 0;
        if (kept > 0 && kept < m.vocab) {
            std::vector<size_t> order(m.vocab);
            std::iota(order.begin(), order.end(), size_t(0));
            std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return q[a] > q[b]; });
            std::vector<double> few_p(kept + 1), few_q(kept + 1);
            for (size_t v = 0; v < m.vocab; v++) few_p[std::min(v, kept)] += p[order[v]], few_q[std::min(v, kept)] += q[order[v]];
            p = few_p, q = few_q;
        }
        r.distance.push_back(counts || loss == DistillationLoss::tlsd ? distance(loss, p, q, coefficient) : 0);
    }
    for (size_t b = 0; b < m.sequences; b++) {
        auto one = softmax(&teacher_loss[b * m.seq_len], m.seq_len);
        weights.insert(weights.end(), one.begin(), one.end());
    }
    for (size_t i = 0; i < m.tokens(); i++) {
        if (loss == DistillationLoss::tlsd) r.distance[i] *= weights[i];
        r.sum += double(m.factors[0]) * r.distance[i] + double(m.factors[1]) * r.entropy[i];
    }
    return r;
}

struct Found {
    std::vector<float> distance, entropy, confidence, d_hidden, d_head;
    float sum;
};
Found run(DistillationLoss loss, const Model& m, int64_t chunk_rows, bool train, size_t kept = 0) {
    Graph g(test::device(), train ? Graph::Mode::training : Graph::Mode::inference);
    test::Tensors data(g);
    const auto tokens = int64_t(m.tokens()), vocab = int64_t(m.vocab), dim = int64_t(m.dim), other = int64_t(m.teacher_dim);
    std::vector<float> factors = m.factors;
    factors[2] = distillation_coefficient(loss, factors[2]);
    Tensor hidden = data.floats({tokens, dim}, m.hidden, "hidden"), head = data.floats({vocab, dim}, m.head, "head");
    Tensor d_hidden, d_head;
    if (train) d_hidden = data.parameter_gradient(hidden), d_head = data.parameter_gradient(head);
    DistillationHead h{.hidden = hidden,
                       .head = head,
                       .teacher_hidden = data.floats({tokens, other}, m.teacher_hidden, "teacher"),
                       .teacher_head = data.floats({vocab, other}, m.teacher_head, "teacher head"),
                       .labels = data.ints({tokens}, m.labels, "labels"),
                       .factors = data.floats({3}, factors, "factors"),
                       .seq_len = int64_t(m.seq_len),
                       .chunk_rows = chunk_rows,
                       .base = data.floats({1}, {2}, "base"),
                       .sum = data.poisoned({1}, "sum"),
                       .distance = data.poisoned({tokens}, "distance"),
                       .entropy = data.poisoned({tokens}, "entropy"),
                       .confidence = data.poisoned({tokens}, "confidence")};
    if (kept > 0) {
        Tensor all = g.tensor({tokens, vocab}, DType::f32, "all");
        matmul(g, Product::nt, h.teacher_hidden, h.teacher_head, {}, all, "teacher");
        auto rows = [&](const char* name) { return data.poisoned({tokens}, name); };
        const Shape few{tokens, int64_t(kept)};
        h.teacher_top = {data.ints(few, std::vector<int32_t>(m.tokens() * kept, -1), "ids"), data.poisoned(few, "values"),
                         rows("norm"), rows("loss"), rows("confidence")};
        top_logits(g, all, h.labels, h.teacher_top);
        h.teacher_hidden = h.teacher_head = {};
    }
    distillation_head(g, loss, h);
    Executable(g, "test").run();
    return {data.read(h.distance),
            data.read(h.entropy),
            data.read(h.confidence),
            train ? data.read(d_hidden) : std::vector<float>(),
            train ? data.read(d_head) : std::vector<float>(),
            data.read(h.sum)[0]};
}

TEST(Distillation, EveryLossMatchesDoublePrecision) {
    for (size_t vocab : {size_t(5), size_t(64), size_t(3001)}) {
        const Model m = make_model(2, 9, vocab);
        for (DistillationLoss loss : losses)
            for (int64_t chunk : {5, 1024}) {
                SCOPED_TRACE(testing::Message() << name(loss) << ", vocabulary " << vocab << ", chunks of " << chunk);
                const Losses expected = reference(loss, m);
                const Found found = run(loss, m, chunk, false);
                EXPECT_LT(test::relative_error(found.distance, expected.distance), 1e-5);
                EXPECT_LT(test::relative_error(found.entropy, expected.entropy), 1e-5);
                EXPECT_LT(test::relative_error(found.confidence, expected.confidence), 1e-5);
                EXPECT_NEAR(found.sum, 2 + expected.sum, 1e-5 * (2 + expected.sum));
            }
    }
}

TEST(Distillation, GradientsMatchCentralDifferences) {
    for (DistillationLoss loss : losses) {
        SCOPED_TRACE(name(loss));
        Model m = make_model(2, 5, 30);
        const Found found = run(loss, m, 4, true);
        auto check = [&](std::vector<float>& values, const std::vector<float>& gradient) {
            std::vector<double> numeric(values.size());
            for (size_t i = 0; i < values.size(); i++) {
                const float kept = values[i];
                values[i] = kept + 0x1p-10f;
                const double above = reference(loss, m).sum;
                values[i] = kept - 0x1p-10f;
                const double below = reference(loss, m).sum;
                values[i] = kept;
                numeric[i] = (above - below) / 0x1p-9;
            }
            // Central differences of doubles, with a step of 1e-3, in values that are rounded to fp32.
            EXPECT_LT(test::relative_error(gradient, numeric), 3e-4);
        };
        check(m.hidden, found.d_hidden);
        check(m.head, found.d_head);
    }
}

// Distances from a teacher of which only the largest logits are known, and what the rest has together.
TEST(Distillation, KeptLogitsGiveTheDistanceWithOneClassForTheRest) {
    for (size_t vocab : {size_t(5), size_t(64), size_t(301)})
        for (size_t kept : {size_t(1), size_t(4), vocab - 1}) {
            const Model m = make_model(2, 9, vocab);
            for (DistillationLoss loss : losses) {
                SCOPED_TRACE(testing::Message() << name(loss) << ", " << kept << " of " << vocab);
                const Losses expected = reference(loss, m, kept);
                const Found found = run(loss, m, 5, false, kept);
                EXPECT_LT(test::relative_error(found.entropy, expected.entropy), 1e-5);
                if (loss == DistillationLoss::tlsd) continue;  // counts the student's shares within the rest
                // What is left of 1 is a difference: with all but one token it may be a thousandth, known to 1e-7.
                EXPECT_LT(test::relative_error(found.distance, expected.distance), 2e-4);
            }
        }
    for (DistillationLoss loss : losses) {
        SCOPED_TRACE(name(loss));
        Model m = make_model(2, 5, 30);
        const Found found = run(loss, m, 4, true, 6);
        auto check = [&](std::vector<float>& values, const std::vector<float>& gradient) {
            std::vector<double> numeric(values.size());
            for (size_t i = 0; i < values.size(); i++) {
                const float before = values[i];
                values[i] = before + 0x1p-10f;
                const double above = reference(loss, m, 6).sum;
                values[i] = before - 0x1p-10f;
                const double below = reference(loss, m, 6).sum;
                values[i] = before;
                numeric[i] = (above - below) / 0x1p-9;
            }
            EXPECT_LT(test::relative_error(gradient, numeric), 3e-4);
        };
        check(m.hidden, found.d_hidden);
        check(m.head, found.d_head);
    }
}

// With all logits kept nothing is lost.
TEST(Distillation, AllLogitsKeptAreTheTeacher) {
    for (size_t vocab : {size_t(5), size_t(64)}) {
        const Model m = make_model(2, 9, vocab);
        for (DistillationLoss loss : losses) {
            SCOPED_TRACE(testing::Message() << name(loss) << ", " << vocab);
            const Found live = run(loss, m, 1024, true), found = run(loss, m, 1024, true, vocab);
            EXPECT_EQ(found.confidence, live.confidence);
            if (loss == DistillationLoss::tlsd) {  // its weights come through another sum
                EXPECT_LT(test::relative_error(found.d_head, live.d_head), 1e-6);
                continue;
            }
            EXPECT_EQ(found.distance, live.distance);
            EXPECT_EQ(found.d_hidden, live.d_hidden);
            EXPECT_EQ(found.d_head, live.d_head);
        }
    }
}

TEST(Distillation, TheLargestLogitsAreKeptInTheOrderOfTheirIds) {
    for (auto [rows, vocab] : {std::pair{3, 7}, {5, 64}, {2, 1001}}) {
        std::vector<float> logits = test::normal(size_t(rows * vocab), 5, 4);
        for (size_t i = 0; i < logits.size(); i += 3) logits[i] = std::round(logits[i]);  // equal ones
        logits[1] = -INFINITY;
        for (int k : {1, 3, vocab - 1, vocab}) {
            SCOPED_TRACE(testing::Message() << rows << " x " << vocab << ", " << k);
            Graph g(test::device());
            test::Tensors data(g);
            std::vector<int32_t> labels;
            for (int row = 0; row < rows; row++) labels.push_back(row == 1 ? -100 : row * 2 % vocab);
            const Shape few{rows, k};
            TopLogits top{data.ints(few, std::vector<int32_t>(size_t(rows * k), -1), "ids"), data.poisoned(few, "values"),
                          data.poisoned({rows}, "norm"), data.poisoned({rows}, "loss"), data.poisoned({rows}, "confidence")};
            top_logits(g, data.floats({rows, vocab}, logits, "logits"), data.ints({rows}, labels, "labels"), top);
            Executable(g, "test").run();
            std::vector<int32_t> ids;
            std::vector<float> values;
            std::vector<double> norm, loss;
            for (int row = 0; row < rows; row++) {
                const float* x = logits.data() + row * vocab;
                std::vector<int32_t> order(static_cast<size_t>(vocab));
                std::iota(order.begin(), order.end(), 0);
                std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return x[a] > x[b]; });
                std::sort(order.begin(), order.begin() + k);
                double sum = 0;
                for (int v = 0; v < vocab; v++) sum += std::exp(double(x[v]));
                for (int i = 0; i < k; i++) ids.push_back(order[size_t(i)]), values.push_back(x[order[size_t(i)]]);
                norm.push_back(std::log(sum));
                loss.push_back(labels[size_t(row)] < 0 ? 0 : std::log(sum) - double(x[labels[size_t(row)]]));
            }
            EXPECT_EQ(data.read_ints(top.ids), ids);
            EXPECT_EQ(data.read(top.values), values);
            EXPECT_LT(test::relative_error(data.read(top.norm), norm), 1e-6);
            EXPECT_LT(test::relative_error(data.read(top.loss), loss), 1e-5);
        }
    }
}

TEST(Distillation, HiddenStatesAreComparedByDirection) {
    for (int64_t dim : {3, 16, 1000}) {
        const int64_t tokens = 6;
        const auto n = size_t(dim);
        std::vector<float> s = test::normal(size_t(tokens) * n, 1, 3), t = test::normal(size_t(tokens) * n, 2);
        auto loss = [&](std::vector<double>& gradient) {
            double sum = 0;
            for (size_t row = 0; row < size_t(tokens); row++) {
                double ss = 0, tt = 0, st = 0;
                for (size_t i = row * n; i < (row + 1) * n; i++)
                    ss += double(s[i]) * s[i], tt += double(t[i]) * t[i], st += double(s[i]) * t[i];
                ss = std::sqrt(ss), tt = std::sqrt(tt);
                sum += 2 - 2 * st / ss / tt;
                for (size_t i = row * n; i < (row + 1) * n; i++)
                    gradient.push_back(0.25 * 2 * (s[i] * st / (ss * ss * ss * tt) - t[i] / (ss * tt)));
            }
            return sum;
        };
        std::vector<double> gradient;
        const double expected = 1.5 + 0.25 * loss(gradient);
        Graph g(test::device(), Graph::Mode::training);
        test::Tensors data(g);
        Tensor student = data.floats({tokens, dim}, s, "student"), d = data.parameter_gradient(student);
        Tensor sum = data.poisoned({1}, "sum");
        hidden_distance(g, student, data.floats({tokens, dim}, t, "teacher"), data.floats({1}, {0.25f}, "scale"),
                        data.floats({1}, {1.5f}, "base"), sum);
        Executable(g, "test").run();
        EXPECT_NEAR(data.read(sum)[0], expected, 1e-5 * expected);
        EXPECT_LT(test::relative_error(data.read(d), gradient), 1e-5);
    }
}

TEST(Distillation, RefusesWhatDoesNotFit) {
    EXPECT_THROW(parse_distillation_loss("kl"), Error);
    EXPECT_EQ(parse_distillation_loss("cakld"), DistillationLoss::cakld);
    EXPECT_THROW(distillation_coefficient(DistillationLoss::cakld, 1.5f), Error);
    Graph g(test::device());
    test::Tensors data(g);
    Tensor hidden = data.floats({2, 3}, test::normal(6, 1), "hidden"), head = data.floats({4, 3}, test::normal(12, 1), "head");
    Tensor other = data.floats({5, 3}, test::normal(15, 1), "other");
    DistillationHead h{.hidden = hidden,
                       .head = head,
                       .teacher_hidden = hidden,
                       .teacher_head = other,
                       .labels = data.ints({2}, {0, 1}, "labels"),
                       .factors = data.floats({3}, {1, 1, 0}, "factors")};
    EXPECT_THROW(distillation_head(g, DistillationLoss::forward, h), Error);
    h.teacher_head = head;
    EXPECT_THROW(distillation_head(g, DistillationLoss::tlsd, h), Error);
    auto rows = [&](const char* name) { return data.poisoned({2}, name); };
    h.teacher_top = {data.ints({2, 5}, std::vector<int32_t>(10), "ids"), data.poisoned({2, 5}, "values"), rows("norm"),
                     rows("loss"), rows("confidence")};
    EXPECT_THROW(distillation_head(g, DistillationLoss::forward, h), Error);  // 5 of 4
}

}  // namespace
}  // namespace vkqat

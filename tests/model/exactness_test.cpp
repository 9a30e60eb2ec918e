// The inference path as a whole against a Llama in double precision: every bit width, prompts of 1 to 1025 tokens in pieces, with
// and without a cached beginning, 1 to 16 sequences at once, at sizes that no tile divides.
#include <algorithm>
#include <cmath>

#include "runtime/model/session.h"
#include "runtime/ops/cast.h"
#include "tests/support/gpu.h"

namespace vkqat {
namespace {

// Random weights on the device, and the same numbers on the host.
class Model {
public:
    Model(const LlamaConfig& config, int bits, int64_t block_size)
        : weights(test::device(), config, {.bits = bits, .block_size = block_size, .seed = uint32_t(bits + 1)}) {
        Graph g(test::device());
        const LlamaTensors t = weights.tensors(g);
        std::vector<std::pair<std::vector<double>*, Tensor>> wanted;
        auto want = [&](std::vector<double>& to, Tensor from) {
            Tensor copy = cast(g, from, DType::f32);
            g.keep(copy);
            wanted.push_back({&to, copy});
        };
        auto linear = [&](std::vector<double>& to, const Linear& from) {
            if (from.dense) return want(to, from.dense);
            ASSERT_EQ(from.packed.size(), 1u);
            Tensor w = dequantize(g, from.packed[0], DType::f32);
            g.keep(w);
            wanted.push_back({&to, w});
        };
        layers.resize(t.layers.size());
        want(embedding, t.embedding);
        want(norm, t.norm);
        want(head, t.head);
        for (size_t i = 0; i < layers.size(); i++) {
            want(layers[i].attention_norm, t.layers[i].attention_norm);
            want(layers[i].mlp_norm, t.layers[i].mlp_norm);
            linear(layers[i].qkv, t.layers[i].qkv);
            linear(layers[i].o, t.layers[i].o);
            linear(layers[i].gate_up, t.layers[i].gate_up);
            linear(layers[i].down, t.layers[i].down);
        }
        Executable run(g, "weights to floats");
        run.run();
        for (auto& [to, from] : wanted) {
            const auto values = test::read_floats(run, from);
            to->assign(values.begin(), values.end());
        }
    }

    // Logits behind every token, [tokens][vocab_size].
    std::vector<std::vector<float>> logits(const std::vector<int32_t>& ids) const {
        const LlamaConfig& c = weights.config();
        const auto n = ids.size(), dim = size_t(c.hidden_size), head_dim = size_t(c.head_dim), mlp = size_t(c.intermediate_size);
        const auto q_dim = size_t(c.q_dim()), kv_dim = size_t(c.kv_dim()), group = size_t(c.heads / c.kv_heads);
        const auto angles = llama_rope_table(c, int64_t(n));
        std::vector<double> x(n * dim);
        for (size_t t = 0; t < n; t++)
            std::copy_n(embedding.begin() + int64_t(size_t(ids[t]) * dim), dim, x.begin() + int64_t(t * dim));
        for (const Layer& layer : layers) {
            auto qkv = product(normed(x, layer.attention_norm), layer.qkv, dim);
            const size_t cols = q_dim + 2 * kv_dim;
            for (size_t t = 0; t < n; t++)
                for (size_t at = t * cols; at < t * cols + q_dim + kv_dim; at += head_dim)
                    for (size_t i = 0; i < head_dim / 2; i++) {
                        const double cos = angles[t * head_dim + i], sin = angles[t * head_dim + head_dim / 2 + i];
                        const double a = qkv[at + i], b = qkv[at + head_dim / 2 + i];
                        qkv[at + i] = a * cos - b * sin;
                        qkv[at + head_dim / 2 + i] = b * cos + a * sin;
                    }
            std::vector<double> attended(n * q_dim, 0), p(n);
            for (size_t t = 0; t < n; t++)
                for (size_t h = 0; h < size_t(c.heads); h++) {
                    const double* q = &qkv[t * cols + h * head_dim];
                    double top = -1e300, sum = 0;
                    for (size_t j = 0; j <= t; j++) {
                        const double* k = &qkv[j * cols + q_dim + h / group * head_dim];
                        p[j] = 0;
                        for (size_t d = 0; d < head_dim; d++) p[j] += q[d] * k[d];
                        p[j] /= std::sqrt(double(head_dim));
                        top = std::max(top, p[j]);
                    }
                    for (size_t j = 0; j <= t; j++) sum += p[j] = std::exp(p[j] - top);
                    for (size_t j = 0; j <= t; j++) {
                        const double* v = &qkv[j * cols + q_dim + kv_dim + h / group * head_dim];
                        for (size_t d = 0; d < head_dim; d++) attended[t * q_dim + h * head_dim + d] += p[j] / sum * v[d];
                    }
                }
            add(x, product(attended, layer.o, q_dim));
            const auto gate_up = product(normed(x, layer.mlp_norm), layer.gate_up, dim);
            std::vector<double> gated(n * mlp);
            for (size_t t = 0; t < n; t++)
                for (size_t i = 0; i < mlp; i++) {
                    const double gate = gate_up[t * 2 * mlp + i];
                    gated[t * mlp + i] = gate / (1 + std::exp(-gate)) * gate_up[t * 2 * mlp + mlp + i];
                }
            add(x, product(gated, layer.down, mlp));
        }
        const auto all = product(normed(x, norm), head, dim);
        std::vector<std::vector<float>> rows(n);
        const auto vocab = size_t(c.vocab_size);
        for (size_t t = 0; t < n; t++) rows[t].assign(all.begin() + int64_t(t * vocab), all.begin() + int64_t((t + 1) * vocab));
        return rows;
    }

    LlamaWeights weights;

private:
    struct Layer {
        std::vector<double> attention_norm, mlp_norm, qkv, o, gate_up, down;
    };
    static void add(std::vector<double>& x, const std::vector<double>& y) {
        for (size_t i = 0; i < x.size(); i++) x[i] += y[i];
    }
    // x [rows, in] w^T [in, out]
    static std::vector<double> product(const std::vector<double>& x, const std::vector<double>& w, size_t in) {
        const size_t rows = x.size() / in, out = w.size() / in;
        std::vector<double> y(rows * out, 0);
        for (size_t r = 0; r < rows; r++)
            for (size_t o = 0; o < out; o++)
                for (size_t i = 0; i < in; i++) y[r * out + o] += x[r * in + i] * w[o * in + i];
        return y;
    }
    std::vector<double> normed(const std::vector<double>& x, const std::vector<double>& weight) const {
        const size_t dim = weight.size();
        std::vector<double> y(x.size());
        for (size_t at = 0; at < x.size(); at += dim) {
            double squares = 0;
            for (size_t i = 0; i < dim; i++) squares += x[at + i] * x[at + i];
            const double scale = 1 / std::sqrt(squares / double(dim) + weights.config().rms_norm_eps);
            for (size_t i = 0; i < dim; i++) y[at + i] = x[at + i] * scale * weight[i];
        }
        return y;
    }
    std::vector<double> embedding, norm, head;
    std::vector<Layer> layers;
};

LlamaConfig small_config() {
    LlamaConfig c{.hidden_size = 72, .intermediate_size = 104, .layers = 2, .heads = 6, .kv_heads = 2, .head_dim = 12};
    c.vocab_size = 131;
    c.max_position_embeddings = 1100;
    return c;
}

// CPUs compute in fp32. GPUs multiply in 16 bits; the bound of the reference vectors for those is 2e-2.
double bound() { return test::device().capabilities().kind == DeviceKind::cpu ? 2e-5 : 2e-2; }

class InferenceAgainstDoubles : public testing::TestWithParam<int> {
protected:
    void SetUp() override {
        model_ = std::make_unique<Model>(small_config(), GetParam(), 8);
        for (int i = 0; i < 1025; i++) text_.push_back((i * i * 7 + i * 31 + 5) % 131);
        expected_ = model_->logits(text_);
    }
    // Compares the logits behind the first `length` tokens.
    void expect_logits(const std::vector<float>& logits, int64_t length) const {
        EXPECT_LT(test::relative_error(logits, expected_[size_t(length - 1)]), bound()) << "behind " << length << " tokens";
    }
    std::span<const int32_t> first(int64_t length) const { return std::span(text_).first(size_t(length)); }
    std::unique_ptr<Model> model_;
    std::vector<int32_t> text_;
    std::vector<std::vector<float>> expected_;
};

TEST_P(InferenceAgainstDoubles, PromptsOfAnyLengthWithAndWithoutACachedBeginning) {
    for (int64_t rows : {512, 37}) {
        Session session(model_->weights, {.context = 1025, .prefill_rows = rows});
        for (int64_t length : {1, 2, 15, 16, 17, 38, 129, 513, 1025}) {
            session.rewind(0);
            session.prefill(first(length));
            expect_logits(session.logits(), length);
        }
        for (int64_t length : {700, 33, 1}) {  // a beginning of what is cached, and then on from there
            session.prefill(first(length));
            expect_logits(session.logits(), length);
            session.prefill(first(length + 9));
            expect_logits(session.logits(), length + 9);
        }
    }
}

TEST_P(InferenceAgainstDoubles, OneToSixteenSequencesAtOnce) {
    for (int64_t count : {1, 2, 3, 4, 5, 8, 9, 16}) {
        Sequences sequences(model_->weights, {.count = count, .context = 300, .prefill_rows = 64});
        auto length = [](int64_t at) { return 1 + at * 17 % 280; };
        for (int64_t at = 0; at < count; at++) sequences.prefill(at, first(length(at)), 0);
        for (int step = 0; step < 2; step++) {  // the text's own tokens go on, not the sampled ones
            for (int64_t at = 0; at < count; at++) sequences.resume(at, first(length(at) + 1 + step));
            test::device().wait(sequences.decode());
            for (int64_t at = 0; at < count; at++) {
                SCOPED_TRACE(fmt::format("sequence {} of {}", at, count));
                expect_logits(sequences.logits(at), length(at) + 1 + step);
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Bits, InferenceAgainstDoubles, testing::Values(1, 2, 3, 4, 8, 0),
                         [](const testing::TestParamInfo<int>& bits) {
                             return bits.param ? fmt::format("{}", bits.param) : std::string("bf16");
                         });

// All layers in one dispatch (runtime/ops/packed_layers.h), where the device runs its workgroups together.
LlamaConfig config_of_one_dispatch() {
    LlamaConfig c{.hidden_size = 256, .intermediate_size = 416, .layers = 5, .heads = 8, .kv_heads = 2, .head_dim = 32};
    c.vocab_size = 131;
    c.max_position_embeddings = 1000;
    return c;
}
bool in_one_dispatch(Sequences& sequences) {
    const auto rows = sequences.profile_decode();
    return std::any_of(rows.begin(), rows.end(), [](const ProfileRow& r) { return r.label == "layers"; });
}

class OneDispatch : public testing::TestWithParam<int> {
protected:
    static constexpr int64_t limit = 700;
    void SetUp() override {
        if (!test::device().capabilities().workgroups_run_together)
            GTEST_SKIP() << "this device does not run workgroups together for certain";
        for (int64_t i = 0; i < limit + 100; i++) text_.push_back(int32_t((i * i * 7 + i * 31 + 5) % 131));
    }
    std::span<const int32_t> first(int64_t length) const { return std::span(text_).first(size_t(length)); }
    // Logits behind `length` tokens of the text, of which the last is decoded.
    std::vector<float> decoded(Sequences& sequences, int64_t length) const {
        sequences.resume(0, first(length));
        test::device().wait(sequences.decode());
        return sequences.logits(0);
    }
    std::vector<int32_t> text_;
};

TEST_P(OneDispatch, GivesTheLogitsOfDoublePrecision) {
    const Model model(config_of_one_dispatch(), GetParam(), 32);
    const auto expected = model.logits({text_.begin(), text_.begin() + 400});
    Sequences sequences(model.weights, {.context = 1000, .prefill_rows = 64, .cache = DType::f16});
    sequences.prefill(0, first(1), 0);
    for (int64_t length = 2; length <= 400; length++)  // every key is one that decoding has written
        EXPECT_LT(test::relative_error(decoded(sequences, length), expected[size_t(length - 1)]), bound()) << length << " tokens";
    EXPECT_TRUE(in_one_dispatch(sequences));
}

TEST_P(OneDispatch, GivesWayToOthersBeyondItsLengthUnnoticed) {
    const LlamaWeights weights(test::device(), config_of_one_dispatch(),
                               LlamaWeights::Random{.bits = GetParam(), .block_size = 32});
    const SequencesOptions options{.context = limit + 100, .prefill_rows = 512, .cache = DType::f16, .one_dispatch_keys = limit};
    Sequences sequences(weights, options);
    sequences.prefill(0, first(limit - 10), 0);
    std::vector<std::vector<float>> one_by_one;
    for (int64_t length = limit - 9; length <= limit + 10; length++) {
        one_by_one.push_back(decoded(sequences, length));
        EXPECT_EQ(in_one_dispatch(sequences), length <= limit) << length;
    }
    SequencesOptions apart = options;
    apart.one_dispatch = false;
    Sequences others(weights, apart);
    others.prefill(0, first(limit - 10), 0);
    for (int64_t length = limit - 9; length <= limit + 10; length++)
        EXPECT_LT(test::relative_error(one_by_one[size_t(length - limit + 9)], decoded(others, length)), bound())
            << length << " tokens";
    EXPECT_FALSE(in_one_dispatch(others));
    // Several tokens at once, across the border.
    sequences.resume(0, first(limit - 5));
    test::device().wait(sequences.decode(15));
    std::vector<int32_t> at_once;
    for (int64_t i = 0; i < 14; i++) at_once.push_back(sequences.generated(0, limit - 5 + i));
    sequences.resume(0, first(limit - 5));
    for (size_t i = 0; i < at_once.size(); i++) {
        test::device().wait(sequences.decode(1));
        EXPECT_EQ(sequences.generated(0, limit - 5 + int64_t(i)), at_once[i]);
    }
}

INSTANTIATE_TEST_SUITE_P(Bits, OneDispatch, testing::Values(1, 2, 3, 4, 8),
                         [](const testing::TestParamInfo<int>& bits) { return fmt::format("{}", bits.param); });

}  // namespace
}  // namespace vkqat

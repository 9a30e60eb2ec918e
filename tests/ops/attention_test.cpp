#include "runtime/ops/attention.h"

#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

struct Documents {
    std::vector<int32_t> start, end;  // [batch, seq_len]
};

// Sequences cut into documents of random lengths; `mean` 0: one document.
Documents documents(const AttentionShape& s, uint32_t seed, uint32_t mean) {
    std::mt19937 random(seed);
    Documents d;
    for (uint32_t b = 0; b < s.batch; b++)
        for (uint32_t at = 0; at < s.seq_len;) {
            uint32_t length = mean ? std::min(s.seq_len - at, 1 + uint32_t(random() % (2 * mean))) : s.seq_len;
            d.start.insert(d.start.end(), length, int32_t(at));
            d.end.insert(d.end.end(), length, int32_t(at + length));
            at += length;
        }
    return d;
}

struct Reference {
    std::vector<double> y, dqkv;
};

// The definition, with the full matrix, in double.
Reference reference(const std::vector<float>& qkv, const std::vector<float>& dy, const AttentionShape& s, const Documents& d) {
    const size_t cols = s.qkv_cols(), dim = s.head_dim, group = s.heads / s.kv_heads;
    Reference r{std::vector<double>(size_t(s.batch) * s.seq_len * s.out_cols()), std::vector<double>(qkv.size())};
    const double scale = 1 / std::sqrt(double(dim));
    std::vector<double> p(s.seq_len), dp(s.seq_len);
    for (size_t b = 0; b < s.batch; b++)
        for (size_t h = 0; h < s.heads; h++)
            for (size_t i = 0; i < s.seq_len; i++) {
                const size_t row = b * s.seq_len;
                const size_t q = (row + i) * cols + h * dim, out = ((row + i) * s.heads + h) * dim,
                             first = size_t(d.start[row + i]);
                auto k = [&](size_t j) { return (row + j) * cols + (s.heads + h / group) * dim; };
                auto v = [&](size_t j) { return k(j) + s.kv_heads * dim; };
                double top = -1e300, sum = 0, delta = 0;
                for (size_t j = first; j <= i; j++) {
                    p[j] = 0;
                    for (size_t c = 0; c < dim; c++) p[j] += scale * qkv[q + c] * qkv[k(j) + c];
                    top = std::max(top, p[j]);
                }
                for (size_t j = first; j <= i; j++) sum += p[j] = std::exp(p[j] - top);
                for (size_t j = first; j <= i; j++) {
                    p[j] /= sum;
                    dp[j] = 0;
                    for (size_t c = 0; c < dim; c++) {
                        r.y[out + c] += p[j] * qkv[v(j) + c];
                        dp[j] += double(dy[out + c]) * qkv[v(j) + c];
                        r.dqkv[v(j) + c] += p[j] * dy[out + c];
                    }
                    delta += p[j] * dp[j];
                }
                for (size_t j = first; j <= i; j++)
                    for (size_t c = 0; c < dim; c++) {
                        const double ds = scale * p[j] * (dp[j] - delta);
                        r.dqkv[q + c] += ds * qkv[k(j) + c];
                        r.dqkv[k(j) + c] += ds * qkv[q + c];
                    }
            }
    return r;
}

// Forward and backward against the reference. Tolerance: fp32 sums of some hundred terms, 1e-7 each, with head room for exp.
void compare(const AttentionShape& s, uint32_t mean_document, AttentionTile tile = {.split = 0}, float size = 1) {
    SCOPED_TRACE(fmt::format("batch {} seq_len {} heads {}/{} head_dim {} documents {} split {} rows {} step {}", s.batch,
                             s.seq_len, s.heads, s.kv_heads, s.head_dim, mean_document, tile.split, tile.rows, tile.step));
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    const int64_t tokens = int64_t(s.batch) * s.seq_len;
    auto values = test::normal(size_t(tokens) * s.qkv_cols(), 1, size), upstream = test::normal(size_t(tokens) * s.out_cols(), 2);
    Documents d = documents(s, 3, mean_document);
    Tensor qkv = data.floats({tokens, s.qkv_cols()}, values, "qkv");
    Tensor gradient = data.parameter_gradient(qkv);  // poisoned
    Tensor start, end;
    if (mean_document) {
        start = data.ints({s.batch, s.seq_len}, d.start, "document_start");
        end = data.ints({s.batch, s.seq_len}, d.end, "document_end");
    }
    Tensor y = attention(g, qkv, s, start, end, {.tile = tile});
    g.keep(y);
    g.backward(y, data.floats({tokens, s.out_cols()}, upstream, "dy"));
    Executable executable(g, "attention");
    executable.run();
    Reference r = reference(values, upstream, s, d);
    EXPECT_LT(test::relative_error(test::read_floats(executable, y), r.y), 3e-6);
    EXPECT_LT(test::relative_error(data.read(gradient), r.dqkv), 1e-5);
}

TEST(Attention, AgreesWithTheDefinition) {
    for (uint32_t seq_len : {1u, 5u, 37u, 130u})
        for (uint32_t head_dim : {8u, 16u, 48u, 128u})
            compare({.batch = 2,
                     .seq_len = seq_len,
                     .heads = 4,
                     .kv_heads = seq_len == 5    ? 4u
                                 : seq_len == 37 ? 1u
                                                 : 2u,
                     .head_dim = head_dim},
                    head_dim == 16 ? 9 : 0);
}

TEST(Attention, AnyEvenHeadDim) {
    for (uint32_t head_dim : {2u, 6u, 10u, 14u, 66u, 256u})
        compare({.batch = 1, .seq_len = 21, .heads = 2, .kv_heads = 1, .head_dim = head_dim}, 6);
}

TEST(Attention, DocumentsDoNotSeeEachOther) {
    compare({.batch = 3, .seq_len = 70, .heads = 4, .kv_heads = 2, .head_dim = 8}, 1);
    compare({.batch = 2, .seq_len = 150, .heads = 2, .kv_heads = 1, .head_dim = 24}, 20);
}

TEST(Attention, EveryTileGivesTheSame) {
    const uint32_t lanes = test::device().capabilities().subgroup_size;
    for (AttentionTile tile : {AttentionTile{1, 1, 1},
                               {1, 2, 3},
                               {2, 1, 4},
                               {4, 2, 4},
                               {4, 1, 2},
                               {8, 3, 2},
                               {4, 1, 2, 2},
                               {2, 2, 3, 4},
                               {4, 1, 2, 8}})
        if (tile.split <= lanes) compare({.batch = 2, .seq_len = 45, .heads = 4, .kv_heads = 2, .head_dim = 32}, 11, tile);
}

TEST(Attention, LargeScoresDoNotOverflow) {
    // Scores of some hundreds: exp of them is beyond fp32. The rounding of scores itself (1e-7 of 300) is most of the error.
    const AttentionShape s{.batch = 1, .seq_len = 40, .heads = 1, .kv_heads = 1, .head_dim = 16};
    Graph g(test::device());
    test::Tensors data(g);
    auto values = test::normal(40 * 48, 5, 9);
    Tensor y = attention(g, data.floats({40, 48}, values, "qkv"), s);
    g.keep(y);
    Executable executable(g, "attention");
    executable.run();
    Reference r = reference(values, std::vector<float>(40 * 16, 0), s, documents(s, 0, 0));
    EXPECT_LT(test::relative_error(test::read_floats(executable, y), r.y), 1e-4);
}

TEST(Attention, GradientsAgreeWithFiniteDifferences) {
    const AttentionShape s{.batch = 2, .seq_len = 9, .heads = 4, .kv_heads = 2, .head_dim = 8};
    Documents d = documents(s, 8, 3);
    test::check_gradients({{"qkv", {18, s.qkv_cols()}, test::normal(size_t(18) * s.qkv_cols(), 4)}},
                          [&](Graph& g, test::Tensors& data, const std::vector<Tensor>& x) {
                              return attention(g, x[0], s, data.ints({2, 9}, d.start, "start"), data.ints({2, 9}, d.end, "end"));
                          });
}

// Runs forward and backward several times: the same bits each time.
void expect_repeats(uint32_t head_dim, Precision precision, AttentionVariant variant) {
    const AttentionShape s{.batch = 1, .seq_len = 100, .heads = 4, .kv_heads = 2, .head_dim = head_dim};
    Graph g(test::device(), Graph::Mode::training);
    g.set_precision(precision);
    test::Tensors data(g);
    Tensor qkv = data.floats({100, s.qkv_cols()}, test::normal(size_t(100) * s.qkv_cols(), 6), "qkv");
    Tensor gradient = data.parameter_gradient(qkv);
    Tensor y = attention(g, qkv, s, {}, {}, {.variant = variant});
    g.backward(y, data.floats({100, s.out_cols()}, test::normal(size_t(100) * s.out_cols(), 7), "dy"));
    Executable executable(g, "attention");
    executable.run();
    auto once = data.read(gradient);
    for (int i = 0; i < 5; i++) {
        executable.run();
        EXPECT_EQ(once, data.read(gradient));
    }
}

TEST(Attention, RepeatsBitForBit) { expect_repeats(16, Precision::f32, AttentionVariant::automatic); }

// --- on matrix units -----------------------------------------------------------------------------------------------------
std::vector<float> rounded(std::vector<float> values, Precision to) {
    for (float& x : values) x = to == Precision::bf16 ? bf16_to_f32(f32_to_bf16(x)) : f16_to_f32(f32_to_f16(x));
    return values;
}

struct Units {
    AttentionShape shape;
    uint32_t mean_document = 0;
    AttentionOptions options = {.variant = AttentionVariant::matrix_units};
    bool rounded = false;  // qkv and y are kept in the type of the products
    bool added = false;    // the gradient is added to what is there
};

// Forward and backward against the reference on operands that are rounded already: what is left is the rounding of the weights
// p and ds, to 8 bits of bf16 (half an ulp is 1 / 512 at most, 0.8e-3 in the mean over a normal distribution) or 11 of f16.
// Weights that were rounded towards zero would have an error of 2.8e-3.
class AttentionUnits : public testing::TestWithParam<Precision> {
protected:
    void SetUp() override {
        if (!has_matrix_units(test::device().capabilities(), GetParam())) GTEST_SKIP() << "no matrix units for this precision";
    }
    // CPU drivers take long to compile large matrices, and most of the two precisions is the same.
    const bool cpu = test::device().capabilities().kind == DeviceKind::cpu;
    const uint32_t small = cpu ? 16 : 32;  // head_dim
    void compare(const Units& u) {
        const AttentionShape& s = u.shape;
        SCOPED_TRACE(fmt::format("batch {} seq_len {} heads {}/{} head_dim {} documents {}", s.batch, s.seq_len, s.heads,
                                 s.kv_heads, s.head_dim, u.mean_document));
        Graph g(test::device(), Graph::Mode::training);
        g.set_precision(GetParam());
        test::Tensors data(g);
        const int64_t tokens = int64_t(s.batch) * s.seq_len;
        auto values = rounded(test::normal(size_t(tokens) * s.qkv_cols(), 1), GetParam());
        auto upstream = rounded(test::normal(size_t(tokens) * s.out_cols(), 2), GetParam());
        Documents d = documents(s, 3, u.mean_document);
        const DType type = u.rounded ? product_type(g) : DType::f32;
        Tensor qkv = data.floats({tokens, s.qkv_cols()}, values, "qkv", type);
        Tensor gradient = u.added ? data.floats(qkv.shape(), std::vector<float>(values.size(), 0.5f), "gradient")
                                  : data.poisoned(qkv.shape(), "gradient");
        g.set_parameter(qkv, gradient, u.added);
        Tensor start, end;
        if (u.mean_document) {
            start = data.ints({s.batch, s.seq_len}, d.start, "document_start");
            end = data.ints({s.batch, s.seq_len}, d.end, "document_end");
        }
        Tensor y = attention(g, qkv, s, start, end, u.options);
        EXPECT_EQ(y.dtype(), type);
        g.keep(y);
        g.backward(y, data.floats({tokens, s.out_cols()}, upstream, "dy"));
        Executable executable(g, "attention");
        executable.run();
        Reference r = reference(values, upstream, s, d);
        const double tolerance = GetParam() == Precision::bf16 ? 2e-3 : 2.5e-4;
        EXPECT_LT(test::relative_error(test::read_floats(executable, y), r.y), tolerance);
        std::vector<float> found = data.read(gradient);
        for (float& x : found) x -= u.added ? 0.5f : 0;
        // q, k and v by themselves: an error in the smaller ones must not hide behind the others.
        const size_t cols = s.qkv_cols(), q_cols = s.out_cols(), kv_cols = size_t(s.kv_heads) * s.head_dim;
        for (auto [what, first, count] :
             {std::tuple{"dq", size_t(0), q_cols}, {"dk", q_cols, kv_cols}, {"dv", q_cols + kv_cols, kv_cols}}) {
            std::vector<float> a;
            std::vector<double> b;
            for (size_t row = 0; row < size_t(tokens); row++)
                for (size_t c = first; c < first + count; c++) {
                    a.push_back(found[row * cols + c]);
                    b.push_back(r.dqkv[row * cols + c]);
                }
            EXPECT_LT(test::relative_error(a, b), 2 * tolerance) << what;
        }
    }
};

TEST_P(AttentionUnits, AgreesWithTheDefinition) {
    for (uint32_t seq_len : {2u, 37u, 150u})
        compare({{.batch = 2, .seq_len = seq_len, .heads = 4, .kv_heads = seq_len == 37 && !cpu ? 1u : 2u, .head_dim = small}});
}

TEST_P(AttentionUnits, HeadSizes) {
    if (cpu) GTEST_SKIP() << "CPU drivers take too long to compile them";
    for (uint32_t head_dim : {16u, 64u, 80u, 96u, 128u})
        compare({{.batch = 1, .seq_len = 45, .heads = 2, .kv_heads = 1, .head_dim = head_dim}, 11});
    // Without a block they are computed in fp32.
    for (uint32_t head_dim : {192u, 256u})
        compare({{.batch = 1, .seq_len = 45, .heads = 2, .kv_heads = 1, .head_dim = head_dim}, 11, {}});
}

TEST_P(AttentionUnits, DocumentsDoNotSeeEachOther) {
    if (cpu && GetParam() == Precision::bf16) GTEST_SKIP() << "f16 has the same";
    const AttentionShape s{.batch = 2, .seq_len = 70, .heads = cpu ? 4u : 6u, .kv_heads = 2, .head_dim = small};
    compare({.shape = s, .mean_document = 1, .rounded = cpu, .added = cpu});  // on CPU drivers one pipeline for both
    compare({.shape = {.batch = 2, .seq_len = 150, .heads = 4, .kv_heads = 2, .head_dim = small},
             .mean_document = 40,
             .rounded = true,
             .added = true});
}

TEST_P(AttentionUnits, EveryBlockGivesTheSame) {
    if (cpu && GetParam() == Precision::bf16) GTEST_SKIP() << "f16 has the same";
    int ran = 0;
    std::vector<AttentionBlock> blocks{{8, 2, 2, true}};
    if (!cpu)
        blocks = {{16, 2, 1, true}, {16, 2, 2, true}, {32, 4, 2, true}, {32, 2, 1, false}, {64, 4, 1, true}, {16, 4, 4, true}};
    for (AttentionBlock b : blocks) {
        AttentionOptions o{.variant = AttentionVariant::matrix_units, .forward = b};
        if (!cpu) o.gradient_q = o.gradient_kv = b;
        const Units u{{.batch = 1, .seq_len = 130, .heads = 4, .kv_heads = cpu ? 2u : 1u, .head_dim = small}, cpu ? 0u : 60u, o};
        try {
            Graph g(test::device());
            g.set_precision(GetParam());
            test::Tensors data(g);
            attention(g, data.floats({130, u.shape.qkv_cols()}, std::vector<float>(130 * u.shape.qkv_cols()), "qkv"), u.shape, {},
                      {}, o);
        } catch (const Error&) {
            continue;  // not on this device
        }
        SCOPED_TRACE(fmt::format("block {} {} {} {}", b.step, b.groups, b.blocks, b.resident));
        compare(u);
        ran++;
    }
    EXPECT_GE(ran, cpu ? 1 : 2);
}

TEST_P(AttentionUnits, GrowingScoresAreRescaled) {
    // Scores of some hundreds, and later keys that score higher than earlier ones: every tile moves the maxima.
    const AttentionShape s{.batch = 1, .seq_len = 150, .heads = 2, .kv_heads = 1, .head_dim = small};
    Graph g(test::device());
    g.set_precision(GetParam());
    test::Tensors data(g);
    auto values = test::normal(size_t(s.seq_len) * s.qkv_cols(), 5);
    for (size_t i = 0; i < s.seq_len; i++)
        for (size_t c = 0; c < 3 * small; c++) {
            const bool q = c < 2 * small;
            values[i * s.qkv_cols() + c] = 1 + 0.02f * float(q ? c : 4 * i);
        }
    values = rounded(values, GetParam());
    Tensor y = attention(g, data.floats({s.seq_len, s.qkv_cols()}, values, "qkv"), s, {}, {},
                         {.variant = AttentionVariant::matrix_units});
    g.keep(y);
    Executable executable(g, "attention");
    executable.run();
    Reference r = reference(values, std::vector<float>(size_t(s.seq_len) * s.out_cols(), 0), s, documents(s, 0, 0));
    EXPECT_LT(test::relative_error(test::read_floats(executable, y), r.y), GetParam() == Precision::bf16 ? 2e-3 : 2.5e-4);
}

TEST_P(AttentionUnits, GradientIsAddedToWhatIsThere) {
    if (cpu) GTEST_SKIP() << "one pipeline less to compile: DocumentsDoNotSeeEachOther adds too";
    const AttentionShape s{.batch = 1, .seq_len = 37, .heads = 2, .kv_heads = 1, .head_dim = small};
    Graph g(test::device(), Graph::Mode::training);
    g.set_precision(GetParam());
    test::Tensors data(g);
    const auto values = test::normal(size_t(37) * s.qkv_cols(), 4);
    Tensor qkv = data.floats({37, s.qkv_cols()}, values, "qkv"), once = data.poisoned(qkv.shape(), "once");
    g.set_parameter(qkv, once, false);
    Tensor y = attention(g, qkv, s, {}, {}, {.variant = AttentionVariant::matrix_units});
    Tensor dy = data.floats({37, s.out_cols()}, test::normal(size_t(37) * s.out_cols(), 5), "dy");
    g.backward(y, dy);
    Executable executable(g, "attention");
    executable.run();
    const auto first = data.read(once);

    Graph again(test::device(), Graph::Mode::training);
    again.set_precision(GetParam());
    test::Tensors more(again);
    qkv = more.floats({37, s.qkv_cols()}, values, "qkv");
    Tensor sum = more.floats(qkv.shape(), std::vector<float>(values.size(), 0.5f), "sum");
    again.set_parameter(qkv, sum, true);
    y = attention(again, qkv, s, {}, {}, {.variant = AttentionVariant::matrix_units});
    again.backward(y, more.floats({37, s.out_cols()}, test::normal(size_t(37) * s.out_cols(), 5), "dy"));
    Executable accumulate(again, "attention");
    accumulate.run();
    const auto added = more.read(sum);
    for (size_t i = 0; i < first.size(); i++) ASSERT_EQ(added[i], first[i] + 0.5f) << i;
}

TEST_P(AttentionUnits, GradientsThatAreNotAlignedAreRefused) {
    const AttentionShape s{.batch = 1, .seq_len = 3, .heads = 1, .kv_heads = 1, .head_dim = 16};
    Graph g(test::device(), Graph::Mode::training);
    g.set_precision(GetParam());
    test::Tensors data(g);
    Buffer memory = test::device().allocate(1024, "gradient");
    Tensor qkv = data.floats({3, s.qkv_cols()}, std::vector<float>(3 * 48), "qkv");
    g.set_parameter(qkv, g.external(memory, 4, qkv.shape(), DType::f32, "gradient"), false);
    Tensor y = attention(g, qkv, s, {}, {}, {.variant = AttentionVariant::matrix_units});
    EXPECT_THROW(g.backward(y, data.floats({3, s.out_cols()}, std::vector<float>(3 * 16), "dy")), Error);
}

TEST_P(AttentionUnits, RepeatsBitForBit) { expect_repeats(small, GetParam(), AttentionVariant::matrix_units); }

TEST(Attention, MatrixUnitsNeedTheirPrecisionAndAHeadSize) {
    Graph g(test::device());
    test::Tensors data(g);
    const AttentionOptions units{.variant = AttentionVariant::matrix_units};
    const AttentionShape s{.batch = 1, .seq_len = 3, .heads = 2, .kv_heads = 1, .head_dim = 32};
    Tensor qkv = data.floats({3, s.qkv_cols()}, std::vector<float>(3 * 128, 0), "qkv");
    EXPECT_THROW(attention(g, qkv, s, {}, {}, units), Error);  // fp32
    g.set_precision(Precision::f16);
    const AttentionShape odd{.batch = 1, .seq_len = 3, .heads = 2, .kv_heads = 1, .head_dim = 20};
    Tensor other = data.floats({3, odd.qkv_cols()}, std::vector<float>(3 * 80, 0), "qkv");
    EXPECT_THROW(attention(g, other, odd, {}, {}, units), Error);
    EXPECT_NO_THROW(attention(g, other, odd));
    // Without matrix units qkv is f32.
    EXPECT_EQ(attention_type(g, odd), DType::f32);
    EXPECT_THROW(attention(g, data.floats(other.shape(), std::vector<float>(3 * 80, 0), "qkv", DType::f16), odd), Error);
}

INSTANTIATE_TEST_SUITE_P(Precisions, AttentionUnits, testing::Values(Precision::bf16, Precision::f16),
                         [](const auto& of) { return of.param == Precision::bf16 ? "bf16" : "f16"; });

TEST(Attention, RefusesShapesThatDoNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor qkv = data.floats({6, 32}, std::vector<float>(192, 0), "qkv");
    Tensor marks = data.ints({2, 3}, std::vector<int32_t>(6, 0), "marks");
    EXPECT_NO_THROW(attention(g, qkv, {.batch = 2, .seq_len = 3, .heads = 2, .kv_heads = 1, .head_dim = 8}));
    EXPECT_THROW(attention(g, qkv, {.batch = 2, .seq_len = 4, .heads = 2, .kv_heads = 1, .head_dim = 8}), Error);
    EXPECT_THROW(attention(g, qkv, {.batch = 2, .seq_len = 3, .heads = 3, .kv_heads = 2, .head_dim = 8}), Error);
    EXPECT_THROW(attention(g, qkv, {.batch = 2, .seq_len = 3, .heads = 2, .kv_heads = 0, .head_dim = 8}), Error);
    EXPECT_THROW(attention(g, qkv, {.batch = 2, .seq_len = 3, .heads = 2, .kv_heads = 1, .head_dim = 8}, marks), Error);
}

}  // namespace
}  // namespace vkqat

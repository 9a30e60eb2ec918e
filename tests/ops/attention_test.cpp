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
    Tensor y = attention(g, qkv, s, start, end, tile);
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
    for (AttentionTile tile : {AttentionTile{1, 1, 1}, {1, 2, 3}, {2, 1, 4}, {4, 2, 4}, {4, 1, 2}, {8, 3, 2}})
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

TEST(Attention, RepeatsBitForBit) {
    const AttentionShape s{.batch = 1, .seq_len = 100, .heads = 4, .kv_heads = 2, .head_dim = 16};
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    Tensor qkv = data.floats({100, s.qkv_cols()}, test::normal(size_t(100) * s.qkv_cols(), 6), "qkv");
    Tensor gradient = data.parameter_gradient(qkv);
    Tensor y = attention(g, qkv, s);
    g.backward(y, data.floats({100, s.out_cols()}, test::normal(size_t(100) * s.out_cols(), 7), "dy"));
    Executable executable(g, "attention");
    executable.run();
    auto once = data.read(gradient);
    for (int i = 0; i < 5; i++) {
        executable.run();
        EXPECT_EQ(once, data.read(gradient));
    }
}

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

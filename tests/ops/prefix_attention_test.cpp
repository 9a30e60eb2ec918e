#include "runtime/ops/prefix_attention.h"

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

struct Packed {
    std::vector<int32_t> first, from, to;
};

// Groups of a shared part and several own parts of random lengths, some empty, and single tokens at the end.
Packed pack(int32_t tokens, uint32_t seed) {
    std::mt19937 random(seed);
    Packed p;
    auto add = [&](int32_t first, int32_t from, int32_t to) {
        if (int32_t(p.first.size()) == tokens) return;
        p.first.push_back(first);
        p.from.push_back(from);
        p.to.push_back(to);
    };
    while (int32_t(p.first.size()) < tokens - 3) {
        const auto begin = int32_t(p.first.size()), shared = int32_t(1 + random() % 20);
        for (int32_t i = 0; i < shared; i++) add(begin, 0, 0);
        for (int n = 0; n < 3; n++) {
            const auto own = int32_t(p.first.size());
            for (uint32_t i = random() % 8; i > 0; i--) add(begin, begin + shared, own);
        }
    }
    while (int32_t(p.first.size()) < tokens) add(int32_t(p.first.size()), 0, 0);
    return p;
}

std::vector<double> reference(const std::vector<float>& qkv, const AttentionShape& s, const Packed& p) {
    const size_t cols = s.qkv_cols(), dim = s.head_dim;
    std::vector<double> y(size_t(s.seq_len) * s.out_cols());
    for (size_t h = 0; h < s.heads; h++)
        for (size_t i = 0; i < s.seq_len; i++) {
            const size_t kv = (s.heads + h / (s.heads / s.kv_heads)) * dim;
            double sum = 0;
            std::vector<double> acc(dim);
            for (size_t j = size_t(p.first[i]); j <= i; j++) {
                if (j >= size_t(p.from[i]) && j < size_t(p.to[i])) continue;
                double dot = 0;
                for (size_t c = 0; c < dim; c++) dot += double(qkv[i * cols + h * dim + c]) * qkv[j * cols + kv + c];
                const double e = std::exp(dot / std::sqrt(double(dim)));
                sum += e;
                for (size_t c = 0; c < dim; c++) acc[c] += e * qkv[j * cols + kv + s.kv_heads * dim + c];
            }
            for (size_t c = 0; c < dim; c++) y[(i * s.heads + h) * dim + c] = acc[c] / sum;
        }
    return y;
}

TEST(PrefixAttention, AgreesWithTheDefinition) {
    for (uint32_t tokens : {1u, 7u, 64u, 193u})
        for (uint32_t head_dim : {6u, 8u, 64u, 128u}) {
            AttentionShape s{.seq_len = tokens, .heads = 4, .kv_heads = tokens == 64 ? 4u : 2u, .head_dim = head_dim};
            SCOPED_TRACE(fmt::format("{} tokens, head_dim {}", tokens, head_dim));
            Graph g(test::device());
            test::Tensors data(g);
            auto values = test::normal(size_t(tokens) * s.qkv_cols(), 1);
            Packed p = pack(int32_t(tokens), 5 + tokens);
            Tensor y =
                prefix_attention(g, data.floats({tokens, s.qkv_cols()}, values, "qkv"), s, data.ints({tokens}, p.first, "first"),
                                 data.ints({tokens}, p.from, "from"), data.ints({tokens}, p.to, "to"));
            g.keep(y);
            Executable executable(g, "attention");
            executable.run();
            // as attention(): fp32 sums of some hundred terms
            EXPECT_LT(test::relative_error(test::read_floats(executable, y), reference(values, s, p)), 3e-6);
        }
}

}  // namespace
}  // namespace vkqat

// The 8-bit cache filled from prompts: what is stored, attention over it, and that decode_attention() goes on from there.
#include "runtime/ops/kv_cache_i8.h"

#include "runtime/ops/decode_attention.h"
#include "tests/support/gpu.h"

namespace vkqat {
namespace {

struct Cache8 {
    CacheI8 tensors;
    Cache8(test::Tensors& data, int64_t positions, const HeadShape& s) {
        const Shape rows{positions, int64_t(s.kv_heads) * s.head_dim}, scales{s.kv_heads, positions};
        tensors = {data.poisoned(rows, "k", DType::i8), data.poisoned(rows, "v", DType::i8), data.poisoned(scales, "scales k"),
                   data.poisoned(scales, "scales v")};
    }
};

// x rounded as an 8-bit cache holds it, a head's vector at a time.
std::vector<float> rounded(const std::vector<float>& x, size_t head_dim) {
    std::vector<float> y(x.size());
    for (size_t at = 0; at < x.size(); at += head_dim) {
        float largest = 0;
        for (size_t d = 0; d < head_dim; d++) largest = std::max(largest, std::abs(x[at + d]));
        for (size_t d = 0; d < head_dim; d++)
            y[at + d] = largest > 0 ? std::nearbyint(x[at + d] * (127 / largest)) * (largest / 127) : 0;
    }
    return y;
}

// Causal attention of rows first .. over all before them, in double.
std::vector<double> reference(std::vector<float> qkv, int64_t tokens, int64_t first, const HeadShape& s) {
    const size_t dim = s.head_dim, cols = (s.heads + 2 * s.kv_heads) * dim;
    std::vector<double> y, p(static_cast<size_t>(tokens));
    for (size_t i = 0; i < size_t(tokens); i++) {
        const auto begin = qkv.begin() + int64_t(i * cols + s.heads * dim), end = qkv.begin() + int64_t((i + 1) * cols);
        const auto held = rounded({begin, end}, dim);
        std::copy(held.begin(), held.end(), begin);
    }
    for (auto i = size_t(first); i < size_t(tokens); i++)
        for (size_t h = 0; h < s.heads; h++) {
            double top = -1e300, sum = 0;
            const size_t kv = h / (s.heads / s.kv_heads);
            for (size_t j = 0; j <= i; j++) {
                p[j] = 0;
                for (size_t c = 0; c < dim; c++)
                    p[j] +=
                        double(qkv[i * cols + h * dim + c]) * qkv[j * cols + (s.heads + kv) * dim + c] / std::sqrt(double(dim));
                top = std::max(top, p[j]);
            }
            for (size_t j = 0; j <= i; j++) sum += p[j] = std::exp(p[j] - top);
            for (size_t c = 0; c < dim; c++) {
                double x = 0;
                for (size_t j = 0; j <= i; j++) x += p[j] / sum * qkv[j * cols + (s.heads + s.kv_heads + kv) * dim + c];
                y.push_back(x);
            }
        }
    return y;
}

// GPUs unpack to f16: 2^-11 of each k and v beside what the 8 bits lose, which the reference loses too. A number at the middle
// between two integers may also be rounded the other way where the device divides less exactly.
double bound() { return test::device().capabilities().kind == DeviceKind::cpu ? 3e-6 : 1e-3; }

TEST(KvCacheI8, PromptsInPiecesAttendToWhatIsHeld) {
    for (const HeadShape& s : {HeadShape{4, 2, 16}, HeadShape{6, 2, 10}, HeadShape{2, 1, 128}, HeadShape{3, 3, 66}}) {
        SCOPED_TRACE(fmt::format("{} / {} heads of {}", s.heads, s.kv_heads, s.head_dim));
        const int64_t cols = (s.heads + 2 * s.kv_heads) * s.head_dim, positions = 50, pieces[] = {9, 21, 12};
        auto values = test::normal(size_t(42 * cols), 5);
        std::fill_n(values.begin() + 3 * cols, cols, 0.f);  // no largest element
        Graph storage(test::device());
        test::Tensors data(storage);
        Cache8 cache(data, positions, s);
        int64_t at = 0;
        for (int64_t rows : pieces) {
            // One row more than there is, which must not matter.
            std::vector<float> piece(values.begin() + at * cols, values.begin() + (at + rows) * cols);
            piece.resize(piece.size() + size_t(cols), 1e4f);
            Tensor qkv = data.floats({rows + 1, cols}, piece, "qkv");
            Tensor start = data.ints({1}, {int32_t(at)}, "start", DType::u32),
                   count = data.ints({1}, {int32_t(rows)}, "count", DType::u32);
            store_kv(storage, qkv, cache.tensors, start, s, count);
            Tensor y = cached_attention(storage, qkv, cache.tensors, start, s, count);
            storage.keep(y);
            Executable run(storage, "piece");  // of all pieces so far: they write the same again
            run.run();
            auto out = test::read_floats(run, y);
            for (size_t i = size_t(rows * s.heads * s.head_dim); i < out.size(); i++) ASSERT_EQ(out[i], 0.f);
            out.resize(size_t(rows * s.heads * s.head_dim));
            at += rows;
            EXPECT_LT(test::relative_error(out, reference(values, at, at - rows, s)), bound()) << "up to " << at;
        }
    }
}

TEST(KvCacheI8, DecodingGoesOnFromAPrompt) {
    const HeadShape s{4, 2, 32};
    const int64_t cols = (s.heads + 2 * s.kv_heads) * s.head_dim, tokens = 20, positions = 32;
    const auto values = test::normal(size_t((tokens + 1) * cols), 6);
    Graph g(test::device());
    test::Tensors data(g);
    Cache8 cache(data, positions, s);
    Tensor start = data.ints({1}, {0}, "start", DType::u32), position = data.ints({1}, {int32_t(tokens)}, "at", DType::u32);
    store_kv(g, data.floats({tokens, cols}, {values.begin(), values.begin() + tokens * cols}, "prompt"), cache.tensors, start, s);
    std::vector<float> table(size_t(positions * s.head_dim), 0);  // no rotation: cosines of 0
    for (size_t p = 0; p < size_t(positions); p++) std::fill_n(table.begin() + int64_t(p * s.head_dim), s.head_dim / 2, 1.f);
    Tensor y = decode_attention(g, data.floats({1, cols}, {values.begin() + tokens * cols, values.end()}, "token"),
                                data.floats({positions, int64_t(s.head_dim)}, table, "table"), cache.tensors.k, cache.tensors.v,
                                position, s, positions, {.scales_k = cache.tensors.scales_k, .scales_v = cache.tensors.scales_v});
    g.keep(y);
    Executable run(g, "prompt and token");
    run.run();
    EXPECT_LT(test::relative_error(test::read_floats(run, y), reference(values, tokens + 1, tokens, s)), bound());
}

TEST(KvCacheI8, RefusesWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    const HeadShape s{2, 1, 8};
    Tensor qkv = data.poisoned({3, 32}, "qkv"), start = data.ints({1}, {0}, "start", DType::u32);
    CacheI8 good = Cache8(data, 9, s).tensors, floats = good, scales = good;
    EXPECT_NO_THROW(store_kv(g, qkv, good, start, s));
    EXPECT_NO_THROW(cached_attention(g, qkv, good, start, s));
    floats.k = data.poisoned({9, 8}, "k");
    scales.scales_v = data.poisoned({9, 1}, "scales");
    EXPECT_THROW(store_kv(g, qkv, floats, start, s), Error);
    EXPECT_THROW(cached_attention(g, qkv, scales, start, s), Error);
    EXPECT_THROW(store_kv(g, qkv, good, start, {4, 1, 8}), Error);
}

}  // namespace
}  // namespace vkqat

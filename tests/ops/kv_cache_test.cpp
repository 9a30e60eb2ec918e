#include "runtime/ops/kv_cache.h"

#include "runtime/ops/attention.h"
#include "tests/support/gpu.h"

namespace vkqat {
namespace {

std::vector<float> rows_of(const std::vector<float>& all, int64_t cols, int64_t first, int64_t count, int64_t padded) {
    std::vector<float> rows(all.begin() + first * cols, all.begin() + (first + count) * cols);
    rows.resize(size_t(padded * cols), 1e4f);  // rows that are not valid must not matter
    return rows;
}

// Causal attention of the whole sequence, in double; k and v rounded as the cache stores them.
std::vector<double> reference(const std::vector<float>& qkv, int64_t tokens, const HeadShape& s, DType cache) {
    const size_t dim = s.head_dim, cols = (s.heads + 2 * s.kv_heads) * dim;
    auto stored = [&](size_t i) {
        return double(cache == DType::f16    ? f16_to_f32(f32_to_f16(qkv[i]))
                      : cache == DType::bf16 ? bf16_to_f32(f32_to_bf16(qkv[i]))
                                             : qkv[i]);
    };
    std::vector<double> y(size_t(tokens) * s.heads * dim), p(static_cast<size_t>(tokens));
    for (size_t i = 0; i < size_t(tokens); i++)
        for (size_t h = 0; h < s.heads; h++) {
            double top = -1e300, sum = 0;
            for (size_t j = 0; j <= i; j++) {
                p[j] = 0;
                const size_t k = j * cols + (s.heads + h / (s.heads / s.kv_heads)) * dim;
                for (size_t c = 0; c < dim; c++) p[j] += qkv[i * cols + h * dim + c] * stored(k + c) / std::sqrt(double(dim));
                top = std::max(top, p[j]);
            }
            for (size_t j = 0; j <= i; j++) sum += p[j] = std::exp(p[j] - top);
            for (size_t j = 0; j <= i; j++)
                for (size_t c = 0; c < dim; c++)
                    y[(i * s.heads + h) * dim + c] +=
                        p[j] / sum * stored(j * cols + (s.heads + s.kv_heads + h / (s.heads / s.kv_heads)) * dim + c);
        }
    return y;
}

// A sequence through a cache: first chunks of `prefill` rows, from `decode_from` on `step` tokens at a time.
struct Run {
    HeadShape shape;
    int64_t tokens, max_positions, prefill, decode_from, step = 1;
    DType cache = DType::f32;
    Precision precision = Precision::f32;
    bool units = false;  // prompts on matrix units
};

// Host-visible memory that several graphs use.
Buffer memory(uint64_t bytes) {
    Buffer b = test::device().allocate_host(bytes, "test");
    std::fill(b.mapped_as<uint8_t>().begin(), b.mapped_as<uint8_t>().end(), uint8_t(0xff));  // NaN
    return b;
}

void compare(const Run& r) {
    SCOPED_TRACE(fmt::format("heads {}/{} head_dim {} tokens {} max {} prefill {} decode from {} by {} {}", r.shape.heads,
                             r.shape.kv_heads, r.shape.head_dim, r.tokens, r.max_positions, r.prefill, r.decode_from, r.step,
                             name(r.cache)));
    const int64_t cols = (r.shape.heads + 2 * r.shape.kv_heads) * r.shape.head_dim, out_cols = r.shape.heads * r.shape.head_dim;
    const Shape cache_shape{r.max_positions, int64_t(r.shape.kv_heads) * r.shape.head_dim};
    auto values = test::normal(size_t(r.tokens * cols), 11);
    if (r.units)  // operands that are rounded already
        for (float& x : values) x = r.precision == Precision::bf16 ? bf16_to_f32(f32_to_bf16(x)) : f16_to_f32(f32_to_f16(x));
    Buffer k = memory(uint64_t(cache_shape.elements()) * bytes(r.cache)), v = memory(k.bytes());
    Buffer start = memory(4), count = memory(4), rows_in = memory(uint64_t(std::max(r.prefill, r.step) * cols) * 4);
    auto& position = start.mapped_as<uint32_t>()[0];
    position = 0;
    std::vector<float> all;

    Graph prefill(test::device());
    prefill.set_precision(r.precision);
    Tensor qkv = prefill.external(rows_in, 0, {r.prefill, cols}, DType::f32, "qkv");
    Tensor cache_k = prefill.external(k, 0, cache_shape, r.cache, "k"),
           cache_v = prefill.external(v, 0, cache_shape, r.cache, "v");
    Tensor at_start = prefill.external(start, 0, {1}, DType::u32, "start");
    Tensor valid = prefill.external(count, 0, {1}, DType::u32, "count");
    store_kv(prefill, qkv, cache_k, cache_v, at_start, r.shape, valid);
    Tensor y = cached_attention(prefill, qkv, cache_k, cache_v, at_start, r.shape, valid,
                                {.variant = r.units ? AttentionVariant::matrix_units : AttentionVariant::automatic});
    advance_position(prefill, at_start, valid);
    prefill.keep(y);
    Executable run_prefill(prefill, "prefill");
    for (int64_t at = 0; at < r.decode_from; at += r.prefill) {
        const int64_t n = std::min(r.prefill, r.decode_from - at);
        auto rows = rows_of(values, cols, at, n, r.prefill);
        std::copy(rows.begin(), rows.end(), rows_in.mapped_as<float>().begin());
        count.mapped_as<uint32_t>()[0] = uint32_t(n);
        run_prefill.run();
        auto out = test::read_floats(run_prefill, y);
        all.insert(all.end(), out.begin(), out.begin() + n * out_cols);
        for (size_t i = size_t(n * out_cols); i < out.size(); i++) ASSERT_EQ(out[i], 0.f) << i;
    }
    ASSERT_EQ(position, uint32_t(r.decode_from));

    Graph decode(test::device());
    qkv = decode.external(rows_in, 0, {r.step, cols}, DType::f32, "qkv");
    cache_k = decode.external(k, 0, cache_shape, r.cache, "k");
    cache_v = decode.external(v, 0, cache_shape, r.cache, "v");
    at_start = decode.external(start, 0, {1}, DType::u32, "start");
    store_kv(decode, qkv, cache_k, cache_v, at_start, r.shape);
    y = cached_attention(decode, qkv, cache_k, cache_v, at_start, r.shape);
    decode.keep(y);
    Executable run_decode(decode, "decode");
    for (int64_t at = r.decode_from; at < r.tokens; at += r.step) {
        auto rows = rows_of(values, cols, at, r.step, r.step);
        std::copy(rows.begin(), rows.end(), rows_in.mapped_as<float>().begin());
        position = uint32_t(at);
        run_decode.run();
        auto out = test::read_floats(run_decode, y);
        all.insert(all.end(), out.begin(), out.end());
    }
    // On matrix units what is left is the rounding of the weights (tests/ops/attention_test.cpp): to f16 with an f16 cache.
    const bool f16 = r.cache == DType::f16 && has_matrix_units(test::device().capabilities(), Precision::f16);
    const double tolerance = !r.units ? 3e-6 : r.precision == Precision::bf16 && !f16 ? 2e-3 : 2.5e-4;
    EXPECT_LT(test::relative_error(all, reference(values, r.tokens, r.shape, r.cache)), tolerance);
}

TEST(KvCache, PromptsOnMatrixUnits) {
    const Capabilities& c = test::device().capabilities();
    const uint32_t head_dim = c.kind == DeviceKind::cpu ? 16 : 32;
    bool ran = false;
    for (Precision precision : {Precision::f16, Precision::bf16}) {
        if (!has_matrix_units(c, precision)) continue;
        ran = true;
        for (DType cache : {DType::f16, DType::bf16, DType::f32})
            compare({{4, 1, head_dim}, 70, 80, 33, 70, 1, cache, precision, true});
        compare({{6, 2, 16}, 150, 150, 150, 140, 1, DType::f16, Precision::f16, true});
        if (c.kind != DeviceKind::cpu) compare({{8, 2, 128}, 300, 700, 256, 290, 5, DType::f16, Precision::f16, true});
    }
    if (!ran) GTEST_SKIP() << "no matrix units";
}

TEST(KvCache, DecodeAndPrefillAgreeWithTheWhole) {
    compare({.shape = {4, 2, 8}, .tokens = 70, .max_positions = 70, .prefill = 16, .decode_from = 37});
    compare({.shape = {2, 2, 16}, .tokens = 20, .max_positions = 33, .prefill = 5, .decode_from = 5});
    compare({.shape = {8, 2, 48}, .tokens = 130, .max_positions = 1000, .prefill = 128, .decode_from = 120});
    compare({.shape = {4, 1, 128}, .tokens = 45, .max_positions = 300, .prefill = 20, .decode_from = 40});
}

TEST(KvCache, AnyEvenHeadDim) {
    for (uint32_t head_dim : {2u, 6u, 20u, 66u})
        for (DType type : {DType::f32, DType::f16})
            compare(
                {.shape = {3, 1, head_dim}, .tokens = 24, .max_positions = 150, .prefill = 7, .decode_from = 19, .cache = type});
}

TEST(KvCache, SixteenBitCaches) {
    for (DType type : {DType::f16, DType::bf16}) {
        compare({.shape = {4, 2, 32}, .tokens = 50, .max_positions = 200, .prefill = 9, .decode_from = 40, .cache = type});
        compare({.shape = {2, 1, 10}, .tokens = 12, .max_positions = 12, .prefill = 8, .decode_from = 8, .cache = type});
    }
}

TEST(KvCache, SeveralTokensADecodeStep) {
    for (int64_t step : {2, 3, 4})
        compare({.shape = {4, 2, 16}, .tokens = 120, .max_positions = 128, .prefill = 12, .decode_from = 108, .step = step});
}

TEST(KvCache, DecodeFromTheFirstTokenOn) {
    compare({.shape = {4, 4, 8}, .tokens = 80, .max_positions = 80, .prefill = 8, .decode_from = 0});
}

TEST(KvCache, RowsBeyondTheCacheAreDropped) {
    const HeadShape s{2, 1, 8};
    Graph g(test::device());
    test::Tensors data(g);
    Buffer cache = memory(10 * 8 * 4);  // the last 2 rows lie behind the cache
    Tensor k = g.external(cache, 0, {8, 8}, DType::f32, "k"), v = data.floats({8, 8}, std::vector<float>(64, 0), "v");
    Tensor qkv = data.floats({6, 32}, std::vector<float>(192, 1), "qkv");
    store_kv(g, qkv, k, v, data.ints({1}, {5}, "start", DType::u32), s, data.ints({1}, {4}, "count", DType::u32));
    Executable executable(g, "store");
    executable.run();
    for (size_t i = 0; i < 80; i++) EXPECT_EQ(std::isnan(cache.mapped_as<float>()[i]), i < 40 || i >= 64) << i;
}

TEST(KvCache, RefusesShapesThatDoNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor qkv = data.poisoned({3, 32}, "qkv"), cache = data.poisoned({9, 8}, "cache");
    Tensor half = data.poisoned({9, 8}, "half", DType::f16), start = data.ints({1}, {0}, "start", DType::u32);
    EXPECT_NO_THROW(store_kv(g, qkv, cache, cache, start, {2, 1, 8}));
    EXPECT_THROW(store_kv(g, qkv, cache, half, start, {2, 1, 8}), Error);
    EXPECT_THROW(store_kv(g, qkv, cache, cache, start, {1, 1, 8}), Error);
    EXPECT_THROW(cached_attention(g, qkv, cache, cache, start, {3, 2, 8}), Error);
    EXPECT_THROW(cached_attention(g, qkv, cache, cache, data.ints({1}, {0}, "start"), {2, 1, 8}), Error);
}

}  // namespace
}  // namespace vkqat

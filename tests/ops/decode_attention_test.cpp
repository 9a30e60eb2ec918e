#include "runtime/ops/decode_attention.h"

#include <algorithm>
#include <cstring>

#include "runtime/ops/rope.h"
#include "tests/support/gpu.h"

namespace vkqat {
namespace {

constexpr uint32_t inactive = UINT32_MAX;

Buffer memory(uint64_t bytes) {  // host-visible, NaN
    Buffer b = test::device().allocate_host(std::max<uint64_t>(bytes, 4), "test");
    std::fill(b.mapped_as<uint8_t>().begin(), b.mapped_as<uint8_t>().end(), uint8_t(0xff));
    return b;
}

struct Case {
    HeadShape shape;
    std::vector<uint32_t> positions;
    int64_t max_positions;
    DType cache = DType::f16;
    bool counters = true;
    // 0: the device's own; 1: several subgroups, wide splits, short parts; 2: one subgroup, short parts
    int tuning = 0;
};

DecodeAttentionTuning tuning_of(const Case& c) {
    const Capabilities& device = test::device().capabilities();
    DecodeAttentionTuning t = decode_attention_tuning(device, c.shape, c.cache, int64_t(c.positions.size()), c.max_positions);
    if (c.tuning == 0) return t;
    t.parts = 7;
    t.shortest = 16;
    t.ahead = c.tuning == 1;
    t.subgroups = c.tuning == 1 ? 2 : 1;
    t.step = c.tuning == 1 ? 2 : 1;
    t.split = std::min(8u, 4 * t.split);
    return t;
}

// A cache with random rows below each position and NaN elsewhere, the graph, and what the host expects.
class Decode {
public:
    explicit Decode(const Case& of)
        : c(of),
          sequences(int64_t(of.positions.size())),
          row(int64_t(of.shape.kv_heads) * of.shape.head_dim),
          cols((of.shape.heads + 2 * of.shape.kv_heads) * of.shape.head_dim),
          graph(test::device()) {
        const uint64_t cache_bytes = uint64_t(sequences * c.max_positions * row) * bytes(c.cache);
        const uint64_t scale_bytes = uint64_t(sequences * c.shape.kv_heads * c.max_positions) * 4;
        for (int which : {0, 1}) {
            cache[which] = memory(cache_bytes);
            scales[which] = memory(scale_bytes);
        }
        qkv = memory(uint64_t(sequences * cols) * 4);
        positions = memory(uint64_t(sequences) * 4);
        counters = memory(uint64_t(decode_attention_counters(sequences, c.shape)) * 4);
        std::fill(counters.mapped_as<uint32_t>().begin(), counters.mapped_as<uint32_t>().end(), 0u);
        angles = rope_table(rope_frequencies(c.shape.head_dim, 10000), c.max_positions);
        table = memory(angles.size() * 4);
        std::copy(angles.begin(), angles.end(), table.mapped_as<float>().begin());

        for (int which : {0, 1})
            for (int64_t s = 0; s < sequences; s++)
                for (uint32_t p = 0; p < c.positions[size_t(s)] && p < c.max_positions; p++)
                    write_row(which, s, p, test::normal(size_t(row), uint32_t(1000 * s + p) * 2 + uint32_t(which)));
        const auto x = test::normal(size_t(sequences * cols), 77);
        std::copy(x.begin(), x.end(), qkv.mapped_as<float>().begin());
        std::copy(c.positions.begin(), c.positions.end(), positions.mapped_as<uint32_t>().begin());

        const Shape shape{sequences * c.max_positions, row};
        auto external = [&](const Buffer& b, const Shape& s, DType t, const char* name) {
            return graph.external(b, 0, s, t, name);
        };
        DecodeAttentionOptions options;
        options.tuning = tuning_of(c);
        if (c.counters)
            options.counters = external(counters, {decode_attention_counters(sequences, c.shape)}, DType::u32, "counters");
        const Shape scale_shape{sequences * c.shape.kv_heads, c.max_positions};
        if (c.cache == DType::i8) {
            options.scales_k = external(scales[0], scale_shape, DType::f32, "scales_k");
            options.scales_v = external(scales[1], scale_shape, DType::f32, "scales_v");
        }
        y = decode_attention(graph, external(qkv, {sequences, cols}, DType::f32, "qkv"),
                             external(table, {c.max_positions, int64_t(c.shape.head_dim)}, DType::f32, "table"),
                             external(cache[0], shape, c.cache, "k"), external(cache[1], shape, c.cache, "v"),
                             external(positions, {sequences}, DType::u32, "positions"), c.shape, c.max_positions, options);
        graph.keep(y);
        executable = std::make_unique<Executable>(graph, "decode attention");
    }

    // The new row of a sequence, k rotated, in the float operations that rope() uses.
    std::vector<float> new_row(int which, int64_t s) const {
        const uint32_t dim = c.shape.head_dim, half = dim / 2;
        auto all = qkv_values();
        const float* from = all.data() + s * cols + (c.shape.heads + (which ? c.shape.kv_heads : 0)) * dim;
        std::vector<float> x(from, from + row);
        if (which == 0)
            for (uint32_t h = 0; h < c.shape.kv_heads; h++) rotate(x.data() + h * dim, c.positions[size_t(s)], half);
        return x;
    }
    template <class T>
    void rotate(T* x, uint32_t position, uint32_t half) const {
        for (uint32_t i = 0; i < half; i++) {
            const T cosine = angles[position * 2 * half + i], sine = angles[position * 2 * half + half + i];
            const T p = x[i], q = x[i + half];
            x[i] = p * cosine - q * sine;
            x[i + half] = q * cosine + p * sine;
        }
    }
    std::span<const float> qkv_values() const { return const_cast<Buffer&>(qkv).mapped_as<float>(); }

    void write_row(int which, int64_t s, uint32_t p, const std::vector<float>& x) {
        const size_t at = size_t((s * c.max_positions + p) * row), dim = c.shape.head_dim;
        for (size_t i = 0; i < x.size(); i++) {
            if (c.cache == DType::f32) cache[which].mapped_as<float>()[at + i] = x[i];
            if (c.cache == DType::f16) cache[which].mapped_as<uint16_t>()[at + i] = f32_to_f16(x[i]);
            if (c.cache == DType::bf16) cache[which].mapped_as<uint16_t>()[at + i] = f32_to_bf16(x[i]);
        }
        if (c.cache != DType::i8) return;
        for (size_t h = 0; h < c.shape.kv_heads; h++) {
            float largest = 0;
            for (size_t i = 0; i < dim; i++) largest = std::max(largest, std::abs(x[h * dim + i]));
            scales[which].mapped_as<float>()[scale_at(s, h, p)] = largest / 127;
            for (size_t i = 0; i < dim; i++)
                cache[which].mapped_as<int8_t>()[at + h * dim + i] = int8_t(std::nearbyint(x[h * dim + i] * (127 / largest)));
        }
    }
    size_t scale_at(int64_t s, size_t h, uint32_t p) const {
        return size_t((s * c.shape.kv_heads + int64_t(h)) * c.max_positions) + p;
    }
    double cached(int which, int64_t s, uint32_t p, size_t column) {
        const size_t at = size_t((s * c.max_positions + p) * row) + column;
        switch (c.cache) {
            case DType::f32: return double(cache[which].mapped_as<float>()[at]);
            case DType::f16: return double(f16_to_f32(cache[which].mapped_as<uint16_t>()[at]));
            case DType::bf16: return double(bf16_to_f32(cache[which].mapped_as<uint16_t>()[at]));
            default:
                return cache[which].mapped_as<int8_t>()[at] *
                       double(scales[which].mapped_as<float>()[scale_at(s, column / c.shape.head_dim, p)]);
        }
    }

    // Attention over the cache as it is after the run, in double.
    std::vector<double> reference() {
        const size_t dim = c.shape.head_dim;
        std::vector<double> result(size_t(sequences) * c.shape.heads * dim);
        auto x = qkv_values();
        for (int64_t s = 0; s < sequences; s++) {
            const uint32_t position = c.positions[size_t(s)];
            if (position >= c.max_positions) continue;
            for (size_t h = 0; h < c.shape.heads; h++) {
                const size_t from = size_t(s * cols) + h * dim, column = h / (c.shape.heads / c.shape.kv_heads) * dim;
                std::vector<double> q(x.begin() + int64_t(from), x.begin() + int64_t(from + dim)), p(position + 1);
                rotate(q.data(), position, uint32_t(dim / 2));
                double top = -1e300, sum = 0;
                for (uint32_t j = 0; j <= position; j++) {
                    for (size_t i = 0; i < dim; i++) p[j] += q[i] * cached(0, s, j, column + i) / std::sqrt(double(dim));
                    top = std::max(top, p[j]);
                }
                for (double& weight : p) sum += weight = std::exp(weight - top);
                for (uint32_t j = 0; j <= position; j++)
                    for (size_t i = 0; i < dim; i++)
                        result[(size_t(s) * c.shape.heads + h) * dim + i] += p[j] / sum * cached(1, s, j, column + i);
            }
        }
        return result;
    }

    std::vector<uint8_t> contents(Buffer& b) { return {b.mapped_as<uint8_t>().begin(), b.mapped_as<uint8_t>().end()}; }
    std::vector<float> run() {
        executable->run();
        return test::read_floats(*executable, y);
    }

    Case c;
    int64_t sequences, row, cols;
    Buffer cache[2], scales[2], qkv, positions, counters, table;
    std::vector<float> angles;
    Graph graph;
    Tensor y;
    std::unique_ptr<Executable> executable;
};

// The same number, or its neighbour where the device may fuse a multiplication with an addition before rounding.
bool stored_as(Decode& d, int which, int64_t s, uint32_t p, const std::vector<float>& expected) {
    const bool exact = (which == 1 && d.c.cache != DType::i8) || test::device().capabilities().kind == DeviceKind::cpu;
    Decode want(Case{d.c.shape, {0}, 1, d.c.cache, false});
    want.write_row(which, 0, 0, expected);
    double largest =
        0;  // of the row: an 8-bit value may fall to either side of a boundary, a step of at most largest / 127 apart
    for (int64_t i = 0; i < d.row; i++) largest = std::max(largest, std::abs(double(want.cached(which, 0, 0, size_t(i)))));
    for (int64_t i = 0; i < d.row; i++) {
        const double is = d.cached(which, s, p, size_t(i)), should = want.cached(which, 0, 0, size_t(i));
        const double near = d.c.cache == DType::f32 ? 1e-6 : d.c.cache == DType::f16 ? 1e-3 : 8e-3;
        const double allowed = d.c.cache == DType::i8 ? 1.01 * largest / 127 : near * std::max(std::abs(should), 1e-3);
        if (exact ? is != should : !(std::abs(is - should) <= allowed)) return false;
    }
    return true;
}

void compare(const Case& c) {
    SCOPED_TRACE(fmt::format("heads {}/{} of {}, {} sequences, first at {}, max {}, {}, counters {}, tuning {}", c.shape.heads,
                             c.shape.kv_heads, c.shape.head_dim, c.positions.size(), c.positions[0], c.max_positions,
                             name(c.cache), c.counters, c.tuning));
    Decode d(c);
    const auto before_k = d.contents(d.cache[0]), before_v = d.contents(d.cache[1]);
    const auto y = d.run();
    EXPECT_LT(test::relative_error(y, d.reference()), 5e-6);
    for (uint32_t counter : d.counters.mapped_as<uint32_t>()) EXPECT_EQ(counter, 0u);
    // Only the new rows have changed, and they are what rope and store_kv would have written.
    for (int which : {0, 1}) {
        auto is = d.contents(d.cache[which]);
        const auto& before = which ? before_v : before_k;
        const auto bytes_of_row = size_t(d.row) * bytes(c.cache);
        for (int64_t s = 0; s < d.sequences; s++) {
            const uint32_t p = c.positions[size_t(s)];
            if (p >= c.max_positions) continue;
            EXPECT_TRUE(stored_as(d, which, s, p, d.new_row(which, s))) << "sequence " << s << " of cache " << which;
            const size_t at = size_t(s * c.max_positions + p) * bytes_of_row;
            std::copy_n(before.begin() + int64_t(at), bytes_of_row, is.begin() + int64_t(at));
        }
        EXPECT_EQ(is, before) << which;
    }
    for (int again = 0; again < 2; again++) {  // the new row is written once more with the same numbers
        const auto same = d.run();
        EXPECT_EQ(std::memcmp(same.data(), y.data(), y.size() * 4), 0);
    }
}

TEST(DecodeAttention, PositionsOfAnyLength) {
    for (uint32_t position : {0u, 1u, 31u, 32u, 33u, 255u, 1000u})
        for (int tuning : {0, 1, 2})
            compare({.shape = {4, 1, 32}, .positions = {position}, .max_positions = 1001, .tuning = tuning});
}

TEST(DecodeAttention, HeadsThatShareKeys) {
    for (uint32_t group : {1u, 2u, 3u, 4u, 6u, 8u})
        for (int tuning : {0, 1})
            compare({.shape = {2 * group, 2, 64}, .positions = {150}, .max_positions = 160, .tuning = tuning});
}

TEST(DecodeAttention, HeadDims) {
    for (uint32_t head_dim : {32u, 64u, 80u, 96u, 128u, 256u})
        for (int tuning : {0, 1})
            compare({.shape = {4, 1, head_dim}, .positions = {70}, .max_positions = 80, .cache = DType::f16, .tuning = tuning});
}

TEST(DecodeAttention, AnyEvenHeadDim) {
    int i = 0;
    for (uint32_t head_dim : {2u, 6u, 8u, 20u})
        for (DType cache : {DType::f32, DType::f16, DType::bf16, DType::i8})
            compare({.shape = {3, 1, head_dim}, .positions = {40}, .max_positions = 50, .cache = cache, .tuning = i++ % 3});
}

TEST(DecodeAttention, SequencesOfTheirOwnLengths) {
    for (DType cache : {DType::f32, DType::f16, DType::bf16, DType::i8})
        for (int tuning : {0, 1, 2})
            for (bool counters : {true, false}) {
                if (!counters && cache != DType::bf16) continue;
                compare({.shape = {6, 2, 32},
                         .positions = {33, 0, inactive, 299, 1},
                         .max_positions = 300,
                         .cache = cache,
                         .counters = counters,
                         .tuning = tuning});
            }
}

TEST(DecodeAttention, ANewPositionEveryReplay) {
    Decode d({.shape = {8, 2, 32}, .positions = {0, inactive}, .max_positions = 200, .cache = DType::f32, .tuning = 1});
    for (uint32_t position = 0; position < 200; position++) {
        const auto x = test::normal(size_t(d.sequences * d.cols), position);
        std::copy(x.begin(), x.end(), d.qkv.mapped_as<float>().begin());
        d.c.positions = {position, position % 3 ? inactive : position / 3};
        std::copy(d.c.positions.begin(), d.c.positions.end(), d.positions.mapped_as<uint32_t>().begin());
        const auto y = d.run();
        ASSERT_LT(test::relative_error(y, d.reference()), 5e-6) << position;
    }
}

TEST(DecodeAttention, EightBitsCostLittle) {
    const HeadShape shape{8, 2, 128};
    Decode exact({.shape = shape, .positions = {300}, .max_positions = 301, .cache = DType::f32});
    Decode eight({.shape = shape, .positions = {300}, .max_positions = 301, .cache = DType::i8});
    const double error = test::relative_error(eight.run(), exact.run());
    RecordProperty("relative_error", fmt::format("{:.5f}", error));
    // Steps of about 2.8 sigma / 127: 0.64 % of a value, much the same of what a weight's change does.
    EXPECT_LT(error, 0.015);
    EXPECT_GT(error, 0.001);
}

TEST(DecodeAttention, RefusesWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor qkv = data.poisoned({2, 32}, "qkv"), table = data.poisoned({9, 8}, "table"), cache = data.poisoned({18, 8}, "cache");
    Tensor half = data.poisoned({18, 8}, "half", DType::f16), short_cache = data.poisoned({17, 8}, "short");
    Tensor positions = data.ints({2}, {0, 0}, "positions", DType::u32), one = data.ints({1}, {0}, "one", DType::u32);
    EXPECT_NO_THROW(decode_attention(g, qkv, table, cache, cache, positions, {2, 1, 8}, 9));
    EXPECT_THROW(decode_attention(g, qkv, table, cache, half, positions, {2, 1, 8}, 9), Error);
    EXPECT_THROW(decode_attention(g, qkv, table, short_cache, short_cache, positions, {2, 1, 8}, 9), Error);
    EXPECT_THROW(decode_attention(g, qkv, table, cache, cache, one, {2, 1, 8}, 9), Error);
    EXPECT_THROW(decode_attention(g, qkv, table, cache, cache, positions, {3, 2, 8}, 9), Error);
    EXPECT_THROW(decode_attention(g, qkv, {}, cache, cache, positions, {2, 1, 8}, 9), Error);
    EXPECT_THROW(decode_attention(g, qkv, table, cache, cache, positions, {2, 1, 8}, 9, {.counters = one}), Error);
    DecodeAttentionTuning tuning;
    tuning.heads = 3;
    EXPECT_THROW(decode_attention(g, qkv, table, cache, cache, positions, {2, 1, 8}, 9, {.tuning = tuning}), Error);
    Tensor bytes = g.tensor({18, 8}, DType::i8, "bytes");
    EXPECT_THROW(decode_attention(g, qkv, table, bytes, bytes, positions, {2, 1, 8}, 9), Error);
}

}  // namespace
}  // namespace vkqat

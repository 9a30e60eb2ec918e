#include "runtime/ops/packed_layers.h"

#include <cstdlib>

#include "runtime/ops/rope.h"
#include "tests/support/packed.h"

namespace vkqat {
namespace {

using test::random_packed;

struct Sizes {
    HeadShape shape;
    int64_t hidden, inner, block;
    int64_t q() const { return int64_t(shape.heads) * shape.head_dim; }
    int64_t kv() const { return int64_t(shape.kv_heads) * shape.head_dim; }
};

// lavapipe runs as many workgroups at the same time as it has threads, whatever the number of cores. Before there is a device.
const int threads_set = setenv("LP_NUM_THREADS", "4", 0);

// How many workgroups of a dispatch run at the same time for certain.
uint32_t together() {
    const Capabilities& c = test::device().capabilities();
    if (c.workgroups_run_together) return c.processors;
    return c.kind == DeviceKind::cpu && threads_set == 0 ? uint32_t(std::max(1, std::atoi(std::getenv("LP_NUM_THREADS")))) : 0;
}

// Threads of a CPU wait for their turn for longer than anybody on a GPU.
constexpr uint32_t patience = 1u << 31;
constexpr double eps = 1e-5;

struct LayerWeights {
    std::vector<PackedWeight> qkv, o, gate_up, down;
    std::vector<float> attention_norm, mlp_norm;
};
LayerWeights random_layer(const Sizes& s, int bits, uint32_t seed) {
    auto one = [&](int64_t out, int64_t in) {
        PackedWeight w = random_packed(out, in, bits, s.block, seed += 3);
        // Mean 0 and 1 / sqrt(in), so that what steps hand on stays near 1, and scores of the attention as well.
        double sum = 0, squares = 0;
        for (float c : w.centroids) sum += c;
        for (float& c : w.centroids) c -= float(sum / double(w.centroids.size())), squares += double(c) * c;
        for (float& c : w.centroids) c *= float(std::sqrt(double(w.centroids.size()) / squares));
        for (uint16_t& scale : w.scales) scale = f32_to_bf16(bf16_to_f32(scale) / std::sqrt(float(in)));
        return w;
    };
    return {{one(s.q(), s.hidden), one(s.kv(), s.hidden), one(s.kv(), s.hidden)},
            {one(s.hidden, s.q())},
            {one(s.inner, s.hidden), one(s.inner, s.hidden)},
            {one(s.hidden, s.inner)},
            test::uniform(size_t(s.hidden), seed + 30, 0.5f, 1.5f),
            test::uniform(size_t(s.hidden), seed + 31, 0.5f, 1.5f)};
}

using Vector = std::vector<double>;

Vector product(const std::vector<PackedWeight>& parts, const Vector& x) {
    Vector y;
    for (const PackedWeight& w : parts) {
        const std::vector<float> values = dequantize(w);
        for (size_t o = 0; o < size_t(w.out); o++) {
            double sum = 0;
            for (size_t i = 0; i < x.size(); i++) sum += values[o * x.size() + i] * x[i];
            y.push_back(sum);
        }
    }
    return y;
}
Vector normed(const Vector& x, const std::vector<float>& weight) {
    double sum = 0;
    for (double v : x) sum += v * v;
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); i++) y[i] = x[i] * weight[i] / std::sqrt(sum / double(x.size()) + eps);
    return y;
}

// A model, its caches with random contents, and what it should do, in double precision.
struct Reference {
    Sizes s;
    int64_t positions;
    std::vector<LayerWeights> layers;
    std::vector<std::vector<float>> k, v;  // by layer
    std::vector<float> table;

    Reference(const Sizes& sizes, int bits, int count, int64_t most) : s(sizes), positions(most) {
        for (int i = 0; i < count; i++) {
            layers.push_back(random_layer(s, bits, uint32_t(1 + 100 * i)));
            for (auto* cache : {&k, &v}) {
                cache->push_back(test::normal(size_t(positions * s.kv()), uint32_t(50 + 100 * i + (cache == &v))));
                for (float& x : cache->back()) x = f16_to_f32(f32_to_f16(x));
            }
        }
        table = rope_table(rope_frequencies(s.shape.head_dim, 10000, {}), positions);
    }

    Vector attend(size_t layer, const Vector& qkv, int64_t position) {
        const auto d = size_t(s.shape.head_dim), q_dim = size_t(s.q()), kv_dim = size_t(s.kv()), at = size_t(position);
        Vector rotated = qkv;
        for (size_t head = 0; head < s.shape.heads + s.shape.kv_heads; head++)
            for (size_t i = 0; i < d / 2; i++) {
                const double c = table[at * d + i], sine = table[at * d + d / 2 + i], x = qkv[head * d + i],
                             y = qkv[head * d + d / 2 + i];
                rotated[head * d + i] = x * c - y * sine;
                rotated[head * d + d / 2 + i] = y * c + x * sine;
            }
        for (size_t i = 0; i < kv_dim; i++) {
            k[layer][at * kv_dim + i] = f16_to_f32(f32_to_f16(float(rotated[q_dim + i])));
            v[layer][at * kv_dim + i] = f16_to_f32(f32_to_f16(float(rotated[q_dim + kv_dim + i])));
        }
        Vector y(q_dim, 0);
        for (size_t head = 0; head < s.shape.heads; head++) {
            const size_t of = head / (s.shape.heads / s.shape.kv_heads) * d;
            Vector scores;
            double sum = 0;
            for (size_t p = 0; p <= at; p++) {
                double score = 0;
                for (size_t i = 0; i < d; i++) score += rotated[head * d + i] * k[layer][p * kv_dim + of + i];
                scores.push_back(std::exp(score / std::sqrt(double(d))));
                sum += scores.back();
            }
            for (size_t p = 0; p <= at; p++)
                for (size_t i = 0; i < d; i++) y[head * d + i] += scores[p] / sum * v[layer][p * kv_dim + of + i];
        }
        return y;
    }

    Vector token(const std::vector<float>& embedded, int64_t position) {
        Vector h(embedded.begin(), embedded.end());
        auto add = [&](const Vector& x) {
            for (size_t i = 0; i < h.size(); i++) h[i] += x[i];
        };
        for (size_t i = 0; i < layers.size(); i++) {
            const LayerWeights& w = layers[i];
            add(product(w.o, attend(i, product(w.qkv, normed(h, w.attention_norm)), position)));
            const Vector gate_up = product(w.gate_up, normed(h, w.mlp_norm));
            Vector inner(size_t(s.inner));
            for (size_t j = 0; j < inner.size(); j++)
                inner[j] = gate_up[j] / (1 + std::exp(-gate_up[j])) * gate_up[inner.size() + j];
            add(product(w.down, inner));
        }
        return h;
    }
};

// The same on the device.
struct OnDevice {
    Graph g{test::device()};
    test::Tensors data{g};
    PackedLayersModel model;
    PackedLayersMemory memory;
    Tensor embedded;
    Buffer position = test::device().allocate_host(4, "position");

    explicit OnDevice(const Reference& r) {
        const Sizes& s = r.s;
        for (size_t i = 0; i < r.layers.size(); i++) {
            const LayerWeights& w = r.layers[i];
            model.layers.push_back({.attention_norm = data.floats({s.hidden}, w.attention_norm, "attention_norm"),
                                    .mlp_norm = data.floats({s.hidden}, w.mlp_norm, "mlp_norm"),
                                    .qkv = test::tiled(g, data, w.qkv),
                                    .o = test::tiled(g, data, w.o),
                                    .gate_up = test::tiled(g, data, w.gate_up),
                                    .down = test::tiled(g, data, w.down),
                                    .cache_k = data.floats({r.positions, s.kv()}, r.k[i], "keys", DType::f16),
                                    .cache_v = data.floats({r.positions, s.kv()}, r.v[i], "values", DType::f16)});
        }
        model.shape = s.shape;
        model.max_positions = r.positions;
        model.eps = float(eps);
        model.rope_table = data.floats({r.positions, s.shape.head_dim}, r.table, "rope");
        position.mapped_as<uint32_t>()[0] = 0;
        model.position = g.external(position, 0, {1}, DType::u32, "position");
        memory = {data.poisoned({packed_layers_words(s.shape, s.hidden, s.inner)}, "handed on", DType::u32),
                  data.ints({1}, {0}, "turn", DType::u32), data.ints({1}, {0}, "in vain", DType::u32)};
        embedded = data.floats({1, s.hidden}, test::normal(size_t(s.hidden), 1), "embedded");
    }
};

// Tokens at these positions, one after another.
void check(const Sizes& s, int bits, int layers, const std::vector<uint32_t>& positions, const PackedLayersTuning& tuning) {
    SCOPED_TRACE(fmt::format(
        "{} / {} heads of {}, hidden {}, inner {}, blocks of {}, {} bits, {} layers, {} workgroups, {} lanes, {} runs of a lane",
        s.shape.heads, s.shape.kv_heads, s.shape.head_dim, s.hidden, s.inner, s.block, bits, layers, tuning.workgroups,
        tuning.lanes, tuning.chunks));
    Reference reference(s, bits, layers, *std::max_element(positions.begin(), positions.end()) + 3);
    OnDevice device(reference);
    Tensor hidden = packed_layers(device.g, device.embedded, device.model, device.memory, tuning);
    device.g.keep(hidden);
    Executable executable(device.g, "layers");
    uint32_t seed = 1000;
    for (uint32_t position : positions) {
        SCOPED_TRACE(fmt::format("position {}", position));
        const std::vector<float> embedded = test::normal(size_t(s.hidden), seed++);
        device.data.write(device.embedded, embedded);
        device.position.mapped_as<uint32_t>()[0] = position;
        executable.run();
        const Vector expected = reference.token(embedded, position);
        // Each of the four products of a layer rounds to fp16 within runs of 32 columns, about 1e-3 of its result. Seen on
        // lavapipe and an H200: at most two thirds of the bound.
        const double bound = 1.5e-3 * std::sqrt(4.0 * layers);
        const double error = test::relative_error(test::read_floats(executable, hidden), expected);
        EXPECT_LE(error, bound);
        for (size_t i = 0; i < reference.layers.size(); i++) {
            EXPECT_LE(test::relative_error(device.data.read(device.model.layers[i].cache_k), reference.k[i]), bound);
            EXPECT_LE(test::relative_error(device.data.read(device.model.layers[i].cache_v), reference.v[i]), bound);
        }
    }
    EXPECT_EQ(device.data.read_ints(device.memory.in_vain)[0], 0);
}

TEST(PackedLayers, AgreeWithDoublePrecision) {
    const uint32_t most = together();
    if (most == 0) GTEST_SKIP() << "not known how many workgroups this device runs together";
    if (most < 3) GTEST_SKIP() << "needs three workgroups";
    // Contexts of one part and of several, longer and shorter again; more tokens than memories that take turns.
    const std::vector<uint32_t> positions{0, 1, 2, 40, 41, 77, 5, 6, 7};
    for (int bits : {1, 2, 3, 4, 8}) {
        check({{6, 2, 32}, 256, 416, 32}, bits, 3, positions, {.workgroups = 3, .shortest = 16, .patience = patience});
        check({{2, 1, 64}, 96, 160, 32}, bits, 4, positions,
              {.workgroups = std::min(most, 16u), .chunks = 3, .parts = 3, .shortest = 16, .patience = patience});
        check({{8, 2, 64}, 384, 768, 128}, bits, 2, positions, {.workgroups = most, .shortest = 8, .patience = patience});
        check({{4, 2, 64}, 256, 416, 32}, bits, 2, {0, 90, 3},
              {.workgroups = 3, .lanes = 384, .chunks = 2, .shortest = 16, .patience = patience});
        // No power of two of subgroups attends (with subgroups of 8 and of 16).
        if (bits != 8)  // 256 centroids need as many lanes
            check({{2, 1, 32}, 192, 256, 32}, bits, 2, {0, 90, 3, 200, 31},
                  {.workgroups = 3, .lanes = 96, .chunks = 2, .shortest = 16, .patience = patience});
    }
}

TEST(PackedLayers, SizesOfModels) {
    const uint32_t most = together();
    if (most < 16) GTEST_SKIP() << "needs a GPU whose workgroups run together";
    check({{32, 8, 128}, 4096, 14336, 64}, 4, 2, {0, 127, 128, 1000, 5}, {.patience = patience});
    check({{48, 8, 128}, 6144, 21504, 64}, 1, 2, {0, 300}, {.patience = patience});
    check({{48, 8, 128}, 6144, 21504, 64}, 4, 1, {0, 300}, {.patience = patience});
}

TEST(PackedLayers, ASequenceThatIsNotActiveWritesNothing) {
    const uint32_t most = together();
    if (most < 3) GTEST_SKIP() << "needs three workgroups that run together";
    const Reference reference({{2, 1, 32}, 64, 96, 32}, 4, 1, 10);
    OnDevice device(reference);
    packed_layers(device.g, device.embedded, device.model, device.memory, {.workgroups = 3, .patience = patience});
    device.position.mapped_as<uint32_t>()[0] = UINT32_MAX;
    Executable(device.g, "layers").run();
    EXPECT_EQ(device.data.read(device.model.layers[0].cache_k), reference.k[0]);
    EXPECT_EQ(device.data.read(device.model.layers[0].cache_v), reference.v[0]);
}

TEST(PackedLayers, SayThatTheyWaitedInVain) {
    const uint32_t most = together();
    if (most < 3 || test::device().capabilities().kind != DeviceKind::cpu)
        GTEST_SKIP() << "a GPU would run as many workgroups as the test could ask for";
    const Reference reference({{2, 1, 32}, 2048, 2048, 32}, 4, 1, 10);
    OnDevice device(reference);
    packed_layers(device.g, device.embedded, device.model, device.memory, {.workgroups = 64, .patience = 100});
    Executable(device.g, "layers").run();
    EXPECT_EQ(device.data.read_ints(device.memory.in_vain)[0], 1);
}

TEST(PackedLayers, RefuseWhatDoesNotFit) {
    const Reference reference({{2, 1, 32}, 96, 160, 32}, 4, 2, 10);
    OnDevice device(reference);
    auto made = [&](const PackedLayersModel& model, Tensor embedded) {
        packed_layers(device.g, embedded, model, device.memory, {.workgroups = 3});
    };
    EXPECT_NO_THROW(made(device.model, device.embedded));
    EXPECT_THROW(made(device.model, device.data.floats({1, 64}, test::normal(64, 1), "x")), Error);
    PackedLayersModel wrong = device.model;
    std::swap(wrong.layers[1].o, wrong.layers[1].down);
    EXPECT_THROW(made(wrong, device.embedded), Error);
    EXPECT_FALSE(has_packed_layers(device.g, wrong));
    wrong = device.model;
    wrong.shape.head_dim = 16;
    EXPECT_THROW(made(wrong, device.embedded), Error);
    wrong = device.model;
    wrong.layers[1].cache_v = device.data.floats({10, 32}, reference.v[1], "values");
    EXPECT_THROW(made(wrong, device.embedded), Error);
}

}  // namespace
}  // namespace vkqat

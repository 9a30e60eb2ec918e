#include "runtime/ops/packed_chain.h"

#include <cstdlib>

#include "tests/support/packed.h"

namespace vkqat {
namespace {

using test::random_packed;

struct Sizes {
    int64_t attended, hidden, inner, q, kv, block;
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

struct Weights {
    std::vector<PackedWeight> o, gate_up, down, qkv;
    std::vector<float> mlp_norm, next_norm;
};
Weights random_weights(const Sizes& s, int bits) {
    auto one = [&](int64_t out, int64_t in, uint32_t seed) {
        PackedWeight w = random_packed(out, in, bits, s.block, seed);
        // About 1 / sqrt(in), so that what steps hand on stays near 1.
        for (uint16_t& scale : w.scales) scale = f32_to_bf16(bf16_to_f32(scale) / std::sqrt(float(in)));
        return w;
    };
    return {{one(s.hidden, s.attended, 1)},
            {one(s.inner, s.hidden, 4), one(s.inner, s.hidden, 7)},
            {one(s.hidden, s.inner, 10)},
            {one(s.q, s.hidden, 13), one(s.kv, s.hidden, 16), one(s.kv, s.hidden, 19)},
            test::uniform(size_t(s.hidden), 22, 0.5f, 1.5f),
            test::uniform(size_t(s.hidden), 23, 0.5f, 1.5f)};
}

// All but q, k, v on the device.
PackedChainWeights on_device(Graph& g, test::Tensors& data, const Weights& w) {
    return {.o = test::tiled(g, data, w.o),
            .gate_up = test::tiled(g, data, w.gate_up),
            .down = test::tiled(g, data, w.down),
            .mlp_norm = data.floats({int64_t(w.mlp_norm.size())}, w.mlp_norm, "mlp_norm"),
            .eps = 1e-5f};
}
PackedChainMemory memory_of(test::Tensors& data, int64_t hidden, int64_t inner) {
    return {data.poisoned({3, packed_chain_words(hidden, inner)}, "handed on", DType::u32),
            data.ints({1}, {0}, "in vain", DType::u32)};
}

std::vector<double> product(const std::vector<PackedWeight>& parts, const std::vector<double>& x) {
    std::vector<double> y;
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
std::vector<double> normed(const std::vector<double>& x, const std::vector<float>& weight) {
    double sum = 0;
    for (double v : x) sum += v * v;
    std::vector<double> y(x.size());
    for (size_t i = 0; i < x.size(); i++) y[i] = x[i] * weight[i] / std::sqrt(sum / double(x.size()) + 1e-5);
    return y;
}

// Several chains after one another, as the layers of a model, all with q, k, v or none.
void check(const Sizes& s, int bits, uint32_t workgroups, uint32_t chunks, bool with_qkv, int count) {
    SCOPED_TRACE(fmt::format("[{}, {}, {}, {} + 2 {}], blocks of {}, {} bits, {} workgroups, {} runs of a lane", s.attended,
                             s.hidden, s.inner, s.q, s.kv, s.block, bits, workgroups, chunks));
    const Weights w = random_weights(s, bits);
    const std::vector<float> attended = test::normal(size_t(s.attended), 30), residual = test::normal(size_t(s.hidden), 31);

    Graph g(test::device());
    test::Tensors data(g);
    PackedChainWeights layers = on_device(g, data, w);
    if (with_qkv) {
        layers.next_norm = data.floats({s.hidden}, w.next_norm, "next_norm");
        layers.qkv = test::tiled(g, data, w.qkv);
    }
    const PackedChainMemory memory = memory_of(data, s.hidden, s.inner);
    Tensor x = data.floats({1, s.attended}, attended, "attended");
    PackedChained last;
    Tensor h = data.floats({1, s.hidden}, residual, "residual");
    for (int layer = 0; layer < count; layer++) {
        last = packed_chain(g, x, h, layers, memory, uint32_t(layer), uint32_t(count),
                            {.workgroups = workgroups, .chunks = chunks, .patience = patience});
        h = last.hidden;
    }
    g.keep(last.hidden);
    if (with_qkv) g.keep(last.qkv);
    Executable executable(g, "chain");
    executable.run();
    executable.run();

    std::vector<double> expected(residual.begin(), residual.end()), in(attended.begin(), attended.end());
    for (int layer = 0; layer < count; layer++) {
        const std::vector<double> o = product(w.o, in);
        for (size_t i = 0; i < o.size(); i++) expected[i] += o[i];
        const std::vector<double> gate_up = product(w.gate_up, normed(expected, w.mlp_norm));
        std::vector<double> inner(size_t(s.inner));
        for (size_t i = 0; i < inner.size(); i++) inner[i] = gate_up[i] / (1 + std::exp(-gate_up[i])) * gate_up[inner.size() + i];
        const std::vector<double> down = product(w.down, inner);
        for (size_t i = 0; i < down.size(); i++) expected[i] += down[i];
    }
    // Rounding to fp16 (packed_linear_test.cpp: 1e-3 of sum |w x|) in up to twelve products after one another, none of which
    // makes errors larger than what it is given.
    EXPECT_LE(test::relative_error(test::read_floats(executable, last.hidden), expected), 3e-3);
    if (with_qkv) {
        EXPECT_LE(test::relative_error(test::read_floats(executable, last.qkv), product(w.qkv, normed(expected, w.next_norm))),
                  3e-3);
    }
    EXPECT_EQ(data.read_ints(memory.in_vain)[0], 0);
}

TEST(PackedChain, AgreesWithProductsInDoublePrecision) {
    const uint32_t most = together();
    if (most == 0) GTEST_SKIP() << "not known how many workgroups this device runs together";
    const Sizes sizes[] = {{192, 256, 416, 192, 64, 32}, {64, 96, 160, 64, 32, 32}, {512, 384, 768, 512, 128, 128}};
    for (int bits : {1, 2, 3, 4, 8})
        for (const Sizes& s : sizes) {
            if (s.inner < 256) check(s, bits, 1, 1, false, 2);
            if (most < 3) continue;
            check(s, bits, s.inner > 700 ? most : 3, 1, true, 3);
            check(s, bits, most, 3, true, 2);
        }
}

TEST(PackedChain, SizesOfModels) {
    const uint32_t most = together();
    if (most < 16) GTEST_SKIP() << "needs a GPU whose workgroups run together";
    check({4096, 4096, 14336, 4096, 1024, 64}, 4, most, 0, true, 2);
    check({6144, 6144, 21504, 6144, 1024, 64}, 1, most, 0, true, 2);
}

TEST(PackedChain, SaysThatItWaitedInVain) {
    const uint32_t most = together();
    if (most < 3 || test::device().capabilities().kind != DeviceKind::cpu)
        GTEST_SKIP() << "a GPU would run as many workgroups as the test could ask for";
    Graph g(test::device());
    test::Tensors data(g);
    const Weights w = random_weights({64, 2048, 2048, 64, 32, 32}, 4);
    PackedChainWeights layers = on_device(g, data, w);
    const PackedChainMemory memory = memory_of(data, 2048, 2048);
    Tensor x = data.floats({1, 64}, test::normal(64, 1), "x"), h = data.floats({1, 2048}, test::normal(2048, 1), "h");
    packed_chain(g, x, h, layers, memory, 0, 2, {.workgroups = 64, .patience = 100});
    Executable executable(g, "chain");
    executable.run();
    EXPECT_EQ(data.read_ints(memory.in_vain)[0], 1);
}

TEST(PackedChain, RefusesWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    const Weights w = random_weights({64, 96, 160, 64, 32, 32}, 4);
    PackedChainWeights layers = on_device(g, data, w);
    const PackedChainMemory memory = memory_of(data, 96, 160);
    Tensor x = data.floats({1, 64}, test::normal(64, 1), "x"), h = data.floats({1, 96}, test::normal(96, 1), "h");
    EXPECT_NO_THROW(packed_chain(g, x, h, layers, memory, 0, 2, {.workgroups = 1}));
    EXPECT_THROW(packed_chain(g, h, h, layers, memory, 0, 2, {.workgroups = 1}), Error);
    std::swap(layers.o, layers.down);
    EXPECT_THROW(packed_chain(g, x, h, layers, memory, 0, 2, {.workgroups = 1}), Error);
    EXPECT_FALSE(has_packed_chain(g, layers));
}

}  // namespace
}  // namespace vkqat

#include "tools/bench_attention.h"

#include <algorithm>
#include <random>

#include "runtime/graph/executable.h"
#include "runtime/ops/rope.h"

namespace vkqat {
namespace {

constexpr int64_t largest_heads = 256, largest_sequences = 64;
constexpr uint64_t scales_bytes = uint64_t(64) << 20;

template <class T>
Buffer filled(Device& device, uint64_t count, const char* what, std::span<const T> pattern) {
    Buffer buffer = device.allocate(count * sizeof(T), what);
    for (uint64_t done = 0; done < count; done += pattern.size())
        device.upload(buffer, done * sizeof(T), std::as_bytes(pattern.first(std::min<uint64_t>(pattern.size(), count - done))));
    return buffer;
}

}  // namespace

AttentionBencher::AttentionBencher(Device& device, uint32_t head_dim, int64_t largest, uint64_t cache_bytes, uint64_t rotate)
    : device_(device), head_dim_(head_dim), rotate_(rotate), table_positions_(largest + 1) {
    std::mt19937 random(1);
    // Read as bf16 or f16 these are of moderate size, as f32 and i8 as well.
    std::vector<uint16_t> halves(std::min<uint64_t>(cache_bytes / 2, uint64_t(4) << 20));
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (uint16_t& x : halves) x = f32_to_f16(uniform(random));
    caches_ = filled<uint16_t>(device, cache_bytes / 2, "benchmark caches", halves);
    std::vector<float> floats(1 << 20);
    for (float& x : floats) x = uniform(random);
    qkv_ = filled<float>(device, uint64_t(largest_sequences * largest_heads) * 3 * head_dim, "benchmark input", floats);
    for (float& x : floats) x = 0.01f;
    scales_ = filled<float>(device, scales_bytes / 4, "benchmark scales", floats);
    std::vector<float> table = rope_table(rope_frequencies(head_dim, 500000), table_positions_);
    table_ = filled<float>(device, table.size(), "benchmark angles", table);
    positions_ = device.allocate_host(largest_sequences * 4, "benchmark positions");
    std::vector<uint32_t> zero(size_t(largest_sequences * largest_heads), 0);
    counters_ = filled<uint32_t>(device, zero.size(), "benchmark counters", zero);
}

void AttentionBencher::add_nodes(Graph& g, const AttentionBench& of, int64_t max_positions, int count) {
    const HeadShape& s = of.shape;
    const int64_t row = int64_t(s.kv_heads) * s.head_dim;
    const uint64_t half = uint64_t(of.sequences * max_positions * row) * bytes(of.cache), places = caches_.bytes() / (2 * half);
    const Shape cache{of.sequences * max_positions, row}, scales{of.sequences * s.kv_heads, max_positions};
    Tensor qkv = g.external(qkv_, 0, {of.sequences, (int64_t(s.heads) + 2 * s.kv_heads) * s.head_dim}, DType::f32, "qkv");
    Tensor table = g.external(table_, 0, {table_positions_, int64_t(s.head_dim)}, DType::f32, "table");
    Tensor positions = g.external(positions_, 0, {of.sequences}, DType::u32, "positions");
    DecodeAttentionOptions options{.tuning = of.tuning};
    if (!of.two_dispatches)
        options.counters = g.external(counters_, 0, {decode_attention_counters(of.sequences, s)}, DType::u32, "counters");
    if (of.cache == DType::i8) {
        options.scales_k = g.external(scales_, 0, scales, DType::f32, "scales_k");
        options.scales_v = g.external(scales_, uint64_t(scales.elements()) * 4, scales, DType::f32, "scales_v");
    }
    for (int i = 0; i < count; i++) {  // the results share memory: each node waits for the one before
        const uint64_t at = uint64_t(i) % places * 2 * half;
        decode_attention(g, qkv, table, g.external(caches_, at, cache, of.cache, "k"),
                         g.external(caches_, at + half, cache, of.cache, "v"), positions, s, max_positions, options);
    }
}

void AttentionBencher::compile(std::span<const AttentionBench> cases) {
    Graph g(device_);
    for (const AttentionBench& each : cases) {
        AttentionBench chosen = each;
        if (!chosen.tuning)
            chosen.tuning =
                decode_attention_tuning(device_.capabilities(), each.shape, each.cache, each.sequences, each.cached + 1);
        add_nodes(g, chosen, 64, 1);
    }
    device_.pipelines().compile_pending();
}

AttentionTime AttentionBencher::measure(const AttentionBench& of, int rounds) {
    const HeadShape& s = of.shape;
    if (s.head_dim != head_dim_ || s.heads > largest_heads || of.sequences > largest_sequences || of.cached >= table_positions_)
        fail("attention benchmark: {} sequences of {} positions with {} heads of {} are not what it was made for", of.sequences,
             of.cached, s.heads, s.head_dim);
    const int64_t row = int64_t(s.kv_heads) * s.head_dim, max_positions = of.cached / 64 * 64 + 64;
    const uint64_t cache = 2 * uint64_t(of.sequences * max_positions * row) * bytes(of.cache);
    if (cache > caches_.bytes() || uint64_t(of.sequences * s.kv_heads * max_positions) * 8 > scales_.bytes())
        fail("attention benchmark: a cache of {} bytes, there are {}", cache, caches_.bytes());
    const auto nodes = int(std::clamp<uint64_t>(rotate_ / cache, 16, 512));
    std::fill_n(positions_.mapped_as<uint32_t>().begin(), of.sequences, uint32_t(of.cached));
    Graph g(device_);
    AttentionBench chosen = of;
    if (!chosen.tuning) chosen.tuning = decode_attention_tuning(device_.capabilities(), s, of.cache, of.sequences, of.cached + 1);
    add_nodes(g, chosen, max_positions, nodes);
    Executable executable(g, "attention");
    executable.run();
    std::vector<double> seconds;
    for (int i = 0; i < rounds; i++) seconds.push_back(executable.timed_run() / nodes);
    std::sort(seconds.begin(), seconds.end());
    return {seconds[seconds.size() / 2], seconds.front(), seconds.back(),
            2.0 * double(of.sequences * of.cached * row) * double(bytes(of.cache))};
}

}  // namespace vkqat

#include "runtime/ops/decode_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "runtime/ops/launch.h"
#include "shaders/args/decode_attention.h"

namespace vkqat {
namespace {

uint32_t piece(DType cache) { return uint32_t(16 / bytes(cache)); }  // elements in 16 bytes

// Bytes of shared memory, as shaders/ops/decode_attention.comp declares it.
uint64_t shared_bytes(const DecodeAttentionTuning& t, uint32_t head_dim, DType cache, uint32_t lanes) {
    if (t.subgroups == 1) return 0;
    const uint64_t row_pieces = (head_dim + piece(cache) - 1) / piece(cache);
    const uint64_t padded = (row_pieces + t.split - 1) / t.split * t.split * piece(cache) / 4;
    return 16 * (t.heads * padded + std::max<uint64_t>(t.subgroups * t.heads * padded, t.subgroups * lanes)) +
           4 * (uint64_t(t.subgroups) * t.heads + uint64_t(t.heads) * std::max(t.parts, t.subgroups)) + 64;
}

void check(Tensor qkv, Tensor table, Tensor cache_k, Tensor cache_v, Tensor positions, const HeadShape& s, int64_t max_positions,
           const DecodeAttentionOptions& options) {
    if (s.head_dim < 2 || s.head_dim > 256 || s.head_dim % 2)
        fail("decode_attention: head_dim must be even and 2 .. 256, found {}", s.head_dim);
    if (s.kv_heads == 0 || s.heads == 0 || s.heads % s.kv_heads || s.heads > 65535)
        fail("decode_attention: heads ({}) must be a multiple of kv_heads ({}) and at most 65535", s.heads, s.kv_heads);
    if (!qkv || !table || !cache_k || !cache_v || !positions) fail("decode_attention: a tensor is absent");
    const int64_t sequences = qkv.rows();
    if (sequences < 1 || sequences > 65535) fail("decode_attention: {} sequences, expected 1 .. 65535", sequences);
    if (max_positions < 1 || max_positions > INT32_MAX)
        fail("decode_attention: max_positions is {}, expected 1 .. {}", max_positions, INT32_MAX);
    expect(qkv, {sequences, (int64_t(s.heads) + 2 * s.kv_heads) * s.head_dim}, DType::f32, "decode_attention: qkv");
    expect(table, {table.rows(), s.head_dim}, DType::f32, "decode_attention: rope_table");
    count32(table.rows(), "decode_attention: rows of rope_table");
    const DType type = cache_k.dtype();
    if (!is_float(type) && type != DType::i8) fail("decode_attention: cache_k is {}, expected f32, f16, bf16 or i8", name(type));
    const Shape cache{sequences * max_positions, int64_t(s.kv_heads) * s.head_dim};
    expect(cache_k, cache, type, "decode_attention: cache_k");
    expect(cache_v, cache, type, "decode_attention: cache_v");
    expect(positions, {sequences}, DType::u32, "decode_attention: positions");
    if (type == DType::i8) {
        const Shape scales{sequences * s.kv_heads, max_positions};
        if (!options.scales_k || !options.scales_v) fail("decode_attention: an 8-bit cache needs scales_k and scales_v");
        expect(options.scales_k, scales, DType::f32, "decode_attention: scales_k");
        expect(options.scales_v, scales, DType::f32, "decode_attention: scales_v");
    }
    if (options.counters)
        expect(options.counters, {decode_attention_counters(sequences, s)}, DType::u32, "decode_attention: counters");
}

void check(const DecodeAttentionTuning& t, const HeadShape& s, DType cache, const Capabilities& device) {
    const uint32_t lanes = device.subgroup_size;
    const bool fits = t.subgroups >= 1 && t.subgroups * lanes <= device.max_workgroup_invocations &&
                      std::has_single_bit(t.split) && t.split <= lanes && t.heads >= 1 && (s.heads / s.kv_heads) % t.heads == 0 &&
                      t.step >= 1 && t.step <= 16 && t.parts >= 1 && t.parts <= 1024 && t.shortest >= 1 && t.shortest <= 65536 &&
                      shared_bytes(t, s.head_dim, cache, lanes) <= device.shared_memory_bytes;
    if (!fits)
        fail(
            "decode_attention: {} subgroups, split {}, {} heads, step {}, {} parts of at least {} do not suit {} / {} heads of "
            "{} "
            "on this device",
            t.subgroups, t.split, t.heads, t.step, t.parts, t.shortest, s.heads, s.kv_heads, s.head_dim);
}

}  // namespace

DecodeAttentionTuning decode_attention_tuning(const Capabilities& device, const HeadShape& shape, DType cache, int64_t sequences,
                                              int64_t max_positions) {
    const bool slow_barriers = device.quirks.barriers_are_slow;
    const uint32_t lanes = device.subgroup_size, row_pieces = (shape.head_dim + piece(cache) - 1) / piece(cache);
    DecodeAttentionTuning t;
    // CPUs load lane by lane in any case, and take long to compile what is unrolled. GPUs hold it all in registers.
    t.split = std::min({std::bit_ceil(row_pieces), lanes, slow_barriers ? 4u : 16u});
    const uint32_t pieces = (row_pieces + t.split - 1) / t.split, values = pieces * piece(cache);
    const uint32_t group = shape.heads / shape.kv_heads;
    for (uint32_t heads = 2; heads <= 8; heads++)
        if (group % heads == 0 && heads * values <= (slow_barriers ? 128 : 64)) t.heads = heads;
    t.step = slow_barriers ? 1 : std::clamp(4 / pieces, 1u, 4u);
    t.ahead = !slow_barriers;
    t.shortest = slow_barriers ? 32 : 64;
    const auto workgroups = uint64_t(shape.heads / t.heads) * uint64_t(sequences);
    const uint64_t wanted = slow_barriers ? (8 + workgroups - 1) / workgroups : std::max<uint64_t>(264 / workgroups, 8);
    t.parts = uint32_t(std::clamp<uint64_t>(wanted, 1, std::clamp<uint64_t>(uint64_t(max_positions) / t.shortest, 1, 128)));
    t.subgroups = slow_barriers ? 1 : std::max(1u, std::min(256u, device.max_workgroup_invocations) / lanes);
    while (t.subgroups > 1 && shared_bytes(t, shape.head_dim, cache, lanes) > device.shared_memory_bytes) t.subgroups /= 2;
    return t;
}

Tensor decode_attention(Graph& g, Tensor qkv, Tensor rope_table, Tensor cache_k, Tensor cache_v, Tensor positions,
                        const HeadShape& shape, int64_t max_positions, const DecodeAttentionOptions& options) {
    check(qkv, rope_table, cache_k, cache_v, positions, shape, max_positions, options);
    const Capabilities& device = g.capabilities();
    const DType type = cache_k.dtype();
    const auto sequences = uint32_t(qkv.rows());
    const DecodeAttentionTuning t =
        options.tuning ? *options.tuning : decode_attention_tuning(device, shape, type, sequences, max_positions);
    check(t, shape, type, device);
    const uint32_t lanes = device.subgroup_size;
    Tensor y = g.tensor({sequences, int64_t(shape.heads) * shape.head_dim}, DType::f32, "attention");
    const bool several = t.parts > 1, fused = several && options.counters && device.memory_model;
    Tensor partial;
    if (several)
        partial = g.tensor({int64_t(sequences) * shape.heads * t.parts * ((shape.head_dim + 3) / 4 * 4 + 2)}, DType::f32,
                           "attention.partial");
    bool vector = shape.head_dim % std::max(8u, piece(type)) == 0;
    for (Tensor each : {qkv, rope_table, cache_k, cache_v}) vector &= aligned(g, each, 16);
    // The cost is that of half a cache; what there is at a step only the device knows.
    const double pairs = 0.5 * double(sequences) * double(max_positions);
    const Cost cost{.flops = 4 * pairs * shape.heads * shape.head_dim,
                    .bytes = double(qkv.bytes() + y.bytes()) + 0.5 * double(cache_k.bytes() + cache_v.bytes())};
    const uint32_t along_context = t.step * (lanes / t.split);
    const bool scaled = type == DType::i8;
    g.dispatch(
        Kernel{fmt::format("decode_attention_{}{}", fused ? "fused_" : "", name(type)),
               {lanes * t.subgroups, shape.head_dim, t.parts, t.shortest, along_context, t.subgroups, t.split, t.heads, t.step,
                vector, t.ahead}},
        {in(qkv), in(rope_table), in(positions), inout(cache_k), inout(cache_v), inout(scaled ? options.scales_k : Tensor{}),
         inout(scaled ? options.scales_v : Tensor{}), inout(fused ? options.counters : Tensor{}), out(partial), out(y)},
        DecodeAttentionArgs{.heads = shape.heads,
                            .kv_heads = shape.kv_heads,
                            .max_positions = uint32_t(max_positions),
                            .table_positions = uint32_t(rope_table.rows()),
                            .scale = float(std::numbers::log2e / std::sqrt(double(shape.head_dim)))},
        Grid{shape.heads / t.heads, t.parts, sequences}, "decode_attention", cost);
    if (several && !fused)
        g.dispatch(Kernel{"decode_attention_combine", {lanes, shape.head_dim, t.parts, t.shortest, along_context}},
                   {in(positions), in(partial), inout(y)},
                   CombineDecodeAttentionArgs{.heads = shape.heads, .max_positions = uint32_t(max_positions)},
                   Grid{(shape.head_dim + lanes - 1) / lanes, shape.heads, sequences}, "decode_attention.combine");
    return y;
}

}  // namespace vkqat

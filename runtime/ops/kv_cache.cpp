#include "runtime/ops/kv_cache.h"

#include <algorithm>
#include <cmath>

#include "runtime/ops/attention.h"
#include "runtime/ops/launch.h"
#include "shaders/args/kv_cache.h"

namespace vkqat {
namespace {

constexpr int64_t decode_tokens = 4;  // up to here the context is what there is to divide, above it the queries
constexpr uint32_t shortest_part = 32;

void check(Tensor qkv, Tensor cache_k, Tensor cache_v, Tensor start, const HeadShape& s, Tensor count, std::string_view what) {
    if (s.head_dim < 2 || s.head_dim > 256 || s.head_dim % 2)
        fail("{}: head_dim must be even and 2 .. 256, found {}", what, s.head_dim);
    if (s.kv_heads == 0 || s.heads == 0 || s.heads % s.kv_heads || s.heads > 65535)
        fail("{}: heads ({}) must be a multiple of kv_heads ({}) and at most 65535", what, s.heads, s.kv_heads);
    expect(qkv, {qkv.rows(), (int64_t(s.heads) + 2 * s.kv_heads) * s.head_dim}, DType::f32, fmt::format("{}: qkv", what));
    if (qkv.rows() < 1 || qkv.rows() > 65535) fail("{}: {} tokens at once, expected 1 .. 65535", what, qkv.rows());
    if (!cache_k || !is_float(cache_k.dtype()) || cache_k.rows() < 1)
        fail("{}: cache_k must be [max_positions, kv_heads * head_dim] of f32, f16 or bf16", what);
    expect(cache_k, {cache_k.rows(), int64_t(s.kv_heads) * s.head_dim}, cache_k.dtype(), fmt::format("{}: cache_k", what));
    expect(cache_v, cache_k.shape(), cache_k.dtype(), fmt::format("{}: cache_v", what));
    if (cache_k.rows() > INT32_MAX) fail("{}: a cache of {} positions is too long", what, cache_k.rows());
    expect(start, {1}, DType::u32, fmt::format("{}: start", what));
    if (count) expect(count, {1}, DType::u32, fmt::format("{}: count", what));
}

// As shaders/ops/matrix_types.glsl numbers them.
uint32_t type_number(DType type) { return type == DType::f32 ? 0 : type == DType::f16 ? 1 : 2; }

std::string with_type(const char* shader, Tensor cache) { return fmt::format("{}_{}", shader, name(cache.dtype())); }

}  // namespace

void store_kv(Graph& g, Tensor qkv, Tensor cache_k, Tensor cache_v, Tensor start, const HeadShape& shape, Tensor count) {
    check(qkv, cache_k, cache_v, start, shape, count, "store_kv");
    const uint32_t tokens = uint32_t(qkv.rows()), kv_cols = uint32_t(cache_k.cols());
    const double moved = double(tokens) * kv_cols * 2;
    g.dispatch(Kernel{with_type("store_kv", cache_k), {64, bool(count)}},
               {in(qkv), in(start), in(count), out(cache_k), out(cache_v)},
               StoreKvArgs{.tokens = tokens,
                           .q_cols = shape.heads * shape.head_dim,
                           .kv_cols = kv_cols,
                           .max_positions = uint32_t(cache_k.rows())},
               Grid{(kv_cols + 63) / 64, tokens, 1}, "store_kv", {.bytes = moved * double(4 + bytes(cache_k.dtype()))});
}

Tensor cached_attention(Graph& g, Tensor qkv, Tensor cache_k, Tensor cache_v, Tensor start, const HeadShape& shape, Tensor count,
                        const CachedAttentionOptions& options) {
    check(qkv, cache_k, cache_v, start, shape, count, "cached_attention");
    const Capabilities& device = g.capabilities();
    const uint32_t tokens = uint32_t(qkv.rows()), max_positions = uint32_t(cache_k.rows()), width = device.subgroup_size;
    Tensor y = g.tensor({tokens, int64_t(shape.heads) * shape.head_dim}, DType::f32, "attention");
    CachedAttentionArgs args{.tokens = tokens,
                             .heads = shape.heads,
                             .kv_heads = shape.kv_heads,
                             .max_positions = max_positions,
                             .splits = 1,
                             .shortest = shortest_part,
                             .scale = 1 / std::sqrt(float(shape.head_dim))};
    const uint64_t chunk_bytes = 4 * bytes(cache_k.dtype());
    const bool vector =
        shape.head_dim % 4 == 0 && aligned(g, qkv, 16) && aligned(g, cache_k, chunk_bytes) && aligned(g, cache_v, chunk_bytes);
    // The cost is that of half a cache; what there is at a step only the device knows.
    const double pairs = 0.5 * double(tokens) * max_positions;
    const Cost cost{.flops = 4 * pairs * shape.heads * shape.head_dim,
                    .bytes = double(qkv.bytes() + y.bytes()) + 0.5 * double(cache_k.bytes() + cache_v.bytes())};

    if (options.variant != AttentionVariant::portable &&
        (tokens > decode_tokens || options.variant == AttentionVariant::matrix_units)) {
        // Offsets within the cache and the queries have 32 bits.
        const bool fits = std::max(cache_k.bytes(), qkv.bytes()) < uint64_t(1) << 32 && aligned(g, qkv, 16) &&
                          aligned(g, cache_k, 16) && aligned(g, cache_v, 16);
        // What an f16 cache holds is read as it is: queries of a bf16 graph are rounded to 11 bits instead of 8.
        const bool f16 =
            g.precision() == Precision::bf16 && cache_k.dtype() == DType::f16 && has_matrix_units(device, Precision::f16);
        const Precision precision = f16 ? Precision::f16 : g.precision();
        if (auto choice = choose_attention(device, precision, AttentionPass::forward, shape.head_dim,
                                           shape.heads / shape.kv_heads, options.block);
            choice && fits) {
            Kernel kernel{fmt::format("cached_attention_units_{}", name(matrix_shape(device, precision)->input)),
                          choice->constants};
            kernel.constants.insert(kernel.constants.end(), {0, 0, type_number(cache_k.dtype()), bool(count)});
            const uint32_t positions = choice->rows / choice->heads;
            g.dispatch(kernel, {in(qkv), in(start), in(count), in(cache_k), in(cache_v), out(y)}, args,
                       Grid{(tokens + positions - 1) / positions, shape.heads / choice->heads, 1}, "cached_attention", cost);
            return y;
        }
        if (options.variant == AttentionVariant::matrix_units)
            fail("cached_attention: {} has no matrix units for head_dim {} in the graph's precision, or the block does not fit",
                 device.name, shape.head_dim);
    }
    if (tokens > decode_tokens) {
        const AttentionTile tile = attention_tile(device, shape.head_dim, false);
        const uint32_t rows = width / tile.split * tile.rows;
        g.dispatch(Kernel{with_type("cached_attention", cache_k),
                          {width, shape.head_dim, tile.split, tile.rows, tile.step, vector, false, bool(count)}},
                   {in(qkv), in(start), in(count), in(cache_k), in(cache_v), out(y)}, args,
                   Grid{(tokens + rows - 1) / rows, shape.heads, 1}, "cached_attention", cost);
        return y;
    }
    const bool cpu = device.kind == DeviceKind::cpu;
    uint32_t split = 1;  // lanes that share a key: contiguous loads
    while (2 * split <= std::min(width, cpu ? 8u : 16u) && shape.head_dim % (8 * split) == 0) split *= 2;
    const uint32_t group = shape.heads / shape.kv_heads, values = shape.head_dim / split;
    uint32_t rows = 1;  // heads that share the keys they load
    for (uint32_t r = 2; r <= 8; r++)
        if (group % r == 0 && r * values <= 64) rows = r;
    const uint32_t step = cpu ? std::clamp(64 / values, 1u, 4u) : 4;
    const uint32_t workgroups = shape.heads / rows * tokens;
    args.splits =
        std::clamp(((cpu ? 8 : 2048) + workgroups - 1) / workgroups, 1u, (max_positions + shortest_part - 1) / shortest_part);
    args.splits = std::min(args.splits, 256u);
    const bool several = args.splits > 1;
    Tensor partial =
        several ? g.tensor({tokens, shape.heads, args.splits, shape.head_dim + 2}, DType::f32, "attention.partial") : y;
    g.dispatch(Kernel{with_type("cached_attention_split", cache_k),
                      {width, shape.head_dim, split, rows, step, vector, false, bool(count)}},
               {in(qkv), in(start), in(count), in(cache_k), in(cache_v), out(partial)}, args,
               Grid{args.splits, shape.heads / rows, tokens}, "cached_attention", cost);
    if (several)
        g.dispatch(Kernel{"cached_attention_combine", {width, bool(count)}}, {in(partial), in(start), in(count), out(y)},
                   CombineAttentionArgs{.tokens = tokens,
                                        .heads = shape.heads,
                                        .head_dim = shape.head_dim,
                                        .max_positions = max_positions,
                                        .splits = args.splits,
                                        .shortest = args.shortest},
                   Grid{(shape.head_dim + width - 1) / width, shape.heads, tokens}, "cached_attention.combine");
    return y;
}

void advance_position(Graph& g, Tensor position, Tensor count) {
    expect(position, {1}, DType::u32, "advance_position: position");
    if (count) expect(count, {1}, DType::u32, "advance_position: count");
    g.dispatch(Kernel{"advance_position", {g.capabilities().subgroup_size, bool(count)}}, {in(count), inout(position)},
               AdvanceArgs{}, Grid{}, "advance_position");
}

}  // namespace vkqat

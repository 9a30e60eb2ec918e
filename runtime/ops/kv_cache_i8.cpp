#include "runtime/ops/kv_cache_i8.h"

#include "runtime/ops/launch.h"
#include "shaders/args/kv_cache_i8.h"

namespace vkqat {
namespace {

void check(Tensor qkv, const CacheI8& cache, Tensor start, const HeadShape& s, Tensor count, std::string_view what) {
    if (s.kv_heads == 0 || s.heads == 0 || s.heads % s.kv_heads || s.heads > 32767)
        fail("{}: heads ({}) must be a multiple of kv_heads ({}) and at most 32767", what, s.heads, s.kv_heads);
    if (!qkv || !cache.k) fail("{}: qkv or the cache is absent", what);
    expect(qkv, {qkv.rows(), (int64_t(s.heads) + 2 * s.kv_heads) * s.head_dim}, DType::f32, fmt::format("{}: qkv", what));
    if (qkv.rows() < 1 || qkv.rows() > 65535) fail("{}: {} tokens at once, expected 1 .. 65535", what, qkv.rows());
    const Shape rows{cache.k.rows(), int64_t(s.kv_heads) * s.head_dim}, scales{s.kv_heads, cache.k.rows()};
    count32(cache.k.rows(), fmt::format("{}: positions of the cache", what));
    expect(cache.k, rows, DType::i8, fmt::format("{}: cache.k", what));
    expect(cache.v, rows, DType::i8, fmt::format("{}: cache.v", what));
    expect(cache.scales_k, scales, DType::f32, fmt::format("{}: cache.scales_k", what));
    expect(cache.scales_v, scales, DType::f32, fmt::format("{}: cache.scales_v", what));
    expect(start, {1}, DType::u32, fmt::format("{}: start", what));
    if (count) expect(count, {1}, DType::u32, fmt::format("{}: count", what));
}

}  // namespace

void store_kv(Graph& g, Tensor qkv, const CacheI8& cache, Tensor start, const HeadShape& shape, Tensor count) {
    check(qkv, cache, start, shape, count, "store_kv");
    const auto tokens = uint32_t(qkv.rows());
    g.dispatch(Kernel{"store_kv_i8", {g.capabilities().subgroup_size, bool(count)}},
               {in(qkv), in(start), in(count), out(cache.k), out(cache.v), out(cache.scales_k), out(cache.scales_v)},
               StoreKvI8Args{.tokens = tokens,
                             .heads = shape.heads,
                             .kv_heads = shape.kv_heads,
                             .head_dim = shape.head_dim,
                             .max_positions = uint32_t(cache.k.rows())},
               Grid{2 * shape.kv_heads, tokens, 1}, "store_kv", {.bytes = double(tokens) * double(cache.k.cols()) * 2 * (4 + 1)});
}

Tensor cached_attention(Graph& g, Tensor qkv, const CacheI8& cache, Tensor start, const HeadShape& shape, Tensor count) {
    check(qkv, cache, start, shape, count, "cached_attention");
    const DType type = g.capabilities().kind == DeviceKind::cpu ? DType::f32 : DType::f16;
    Tensor k = g.tensor(cache.k.shape(), type, "attention.k"), v = g.tensor(cache.k.shape(), type, "attention.v");
    const int64_t positions = cache.k.rows();
    g.dispatch(Kernel{fmt::format("unpack_kv_{}", name(type)), {64, bool(count)}},
               {in(start), in(count), in(cache.k), in(cache.v), in(cache.scales_k), in(cache.scales_v), out(k), out(v)},
               UnpackKvArgs{.tokens = uint32_t(qkv.rows()),
                            .kv_heads = shape.kv_heads,
                            .head_dim = shape.head_dim,
                            .max_positions = uint32_t(positions)},
               linear_grid(2 * positions), "unpack_kv", {.bytes = double(cache.k.elements()) * double(1 + bytes(type))});
    return cached_attention(g, qkv, k, v, start, shape, count);
}

}  // namespace vkqat

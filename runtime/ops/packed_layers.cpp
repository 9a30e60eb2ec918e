#include "runtime/ops/packed_layers.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "runtime/ops/launch.h"
#include "shaders/args/packed_layers.h"

namespace vkqat {
namespace {

using Layer = PackedLayersModel::Layer;

constexpr uint32_t most_parts = 16;

struct Plan {
    uint32_t workgroups = 0, width;
    uint32_t hidden_share, inner_share, qkv_share;  // rows of a workgroup
    uint32_t chunks, copies;
    bool skip;
    uint32_t parts, shortest, keys;  // of the attention
};

uint32_t share_of(int64_t rows, uint32_t workgroups) { return uint32_t((rows + workgroups - 1) / workgroups + 7) / 8 * 8; }
uint32_t workgroups_of(int64_t rows, uint32_t share) { return uint32_t((rows + share - 1) / share); }

// Why a layer cannot be one of those that begin with `first`, or nothing.
std::string refused(const Layer& l, const Layer& first, const HeadShape& shape) {
    for (const PackedLayer* w : {&l.qkv, &l.o, &l.gate_up, &l.down}) {
        if (w->rows.empty()) return "a weight is absent";
        if (w->bits != first.o.bits || w->block_size != first.o.block_size) return "weights differ in bits or blocks";
        if (w->block_size % 32) return "blocks are no multiple of 32";
        if (w->in >= 65536 * 32) return "rows are too long";
        if (w->indices.bytes() > UINT32_MAX) return "matrices are too large";
        for (int64_t rows : w->rows)
            if (rows % 32) return "a matrix's rows are no multiple of 32";
    }
    const int64_t hidden = first.o.out(), inner = first.down.in;
    const int64_t q = int64_t(shape.heads) * shape.head_dim, kv = int64_t(shape.kv_heads) * shape.head_dim;
    if (l.qkv.rows != std::vector{q, kv, kv} || l.qkv.in != hidden || l.o.rows != std::vector{hidden} || l.o.in != q ||
        l.gate_up.rows != std::vector{inner, inner} || l.gate_up.in != hidden || l.down.rows != std::vector{hidden} ||
        l.down.in != inner)
        return "shapes do not follow one another";
    if (!l.attention_norm || !l.mlp_norm || l.attention_norm.dtype() != first.mlp_norm.dtype() ||
        l.mlp_norm.dtype() != first.mlp_norm.dtype())
        return "norms differ in type";
    if (!l.cache_k || !l.cache_v || l.cache_k.dtype() != first.cache_k.dtype() || l.cache_v.dtype() != first.cache_k.dtype() ||
        (l.cache_k.dtype() != DType::f16 && l.cache_k.dtype() != DType::bf16))
        return "caches are neither f16 nor bf16";
    return "";
}

std::string refused(const Capabilities& c, const PackedLayersModel& m) {
    if (m.layers.empty()) return "there are no layers";
    const HeadShape& s = m.shape;
    if (s.head_dim < 16 || s.head_dim > 256 || !std::has_single_bit(s.head_dim) || s.kv_heads == 0 || s.heads % s.kv_heads)
        return "heads have no power of two of columns, 16 to 256, or do not share keys evenly";
    if (s.head_dim % c.subgroup_size) return "heads are narrower than a subgroup";
    for (const Layer& l : m.layers)
        if (std::string why = refused(l, m.layers[0], s); !why.empty()) return why;
    if (!c.memory_model || !c.float16 || c.subgroup_size < 8 || c.subgroup_size > 64 || c.max_workgroup_invocations < 256 ||
        c.push_constant_bytes < sizeof(PackedLayersArgs))
        return "the device cannot run it";
    return "";
}

std::string plan_for(const Capabilities& c, const PackedLayersModel& m, const PackedLayersTuning& tuning, Plan& p) {
    if (std::string why = refused(c, m); !why.empty()) return why;
    const PackedLayer &o = m.layers[0].o, &qkv = m.layers[0].qkv;
    const int bits = o.bits;
    const uint32_t most = std::min(256u, tuning.workgroups ? tuning.workgroups : c.processors);
    if (most == 0) return "the number of processors is not known";
    const int64_t hidden = o.out(), inner = m.layers[0].down.in, q = qkv.rows[0], kv = qkv.rows[1];
    p.hidden_share = share_of(hidden, most);
    p.inner_share = share_of(inner, most);
    p.qkv_share = share_of(q + 2 * kv, most);
    while (workgroups_of(q, p.qkv_share) + 2 * workgroups_of(kv, p.qkv_share) > most) {
        if (most < 3) return "q, k and v need three workgroups";
        p.qkv_share += 8;
    }
    p.workgroups = std::max({workgroups_of(hidden, p.hidden_share), workgroups_of(inner, p.inner_share),
                             workgroups_of(q, p.qkv_share) + 2 * workgroups_of(kv, p.qkv_share)});
    auto parts = [&](int64_t in) { return uint32_t((in / 32 + p.chunks * 32 - 1) / (p.chunks * 32)); };
    const int64_t widest = std::max({hidden, inner, q});
    // Rounds of the groups of lanes of all steps, and what part of them has a quad and columns.
    auto groups = [&](int64_t in) { return p.width / 32 / parts(in); };
    auto rounds = [&](uint32_t share, int64_t in) { return std::max((share / 4 + groups(in) - 1) / groups(in), 2u); };
    auto over_steps = [&](auto each) {
        return each(p.qkv_share, hidden) + each(p.hidden_share, q) + 2 * each(p.inner_share, hidden) +
               each(p.hidden_share, inner);
    };
    auto useful = [&] {
        return double(over_steps([&](uint32_t share, int64_t in) { return share / 4 * parts(in); })) /
               (over_steps(rounds) * double(p.width / 32));
    };
    // A row, a sum of squares and a centroid for each lane.
    const uint32_t squares = (p.hidden_share + c.subgroup_size - 1) / c.subgroup_size;
    const uint32_t tallest =
        std::max({p.hidden_share, p.inner_share, p.qkv_share, p.workgroups * squares, m.shape.head_dim, 1u << bits});
    auto lay_out = [&](uint32_t width, uint32_t chunks) {
        p.width = std::min(tuning.lanes ? tuning.lanes : width, c.max_workgroup_invocations / 32 * 32);
        p.chunks = tuning.chunks ? tuning.chunks : chunks;
        return parts(widest) <= p.width / 32 && tallest <= p.width;
    };
    // Registers decide, as far as times tell: two runs of a lane go with 512 lanes at 1 bit, with 384 otherwise (31B at 4 bits
    // 168 tokens/s, with 512 lanes 111, five dispatches a layer 140), and with none at 8 bits (43, five dispatches 68). More
    // lanes attend faster. At 1 bit 384 lanes only where clearly more of them have something to do: 31B (0.95 of them, 0.79 of
    // 512) 275 tokens/s against 262, 4B (0.87, 0.75) 1,123 against 1,088, but 12B (0.79, 0.81) with 1,000 positions 474 against
    // 485.
    bool fits = lay_out(512, bits == 1 ? 2 : 1);
    if (bits == 1 && fits) {
        const double of_512 = useful();
        if (!lay_out(384, 2) || useful() < 1.15 * of_512) lay_out(512, 2);
    } else if (!fits && bits != 8) {
        fits = lay_out(384, 2);
    }
    if (!fits) return tallest > p.width ? "matrices are too tall" : "rows are too long for the registers of a workgroup";
    // Tokens/s without and with: 12B at 4 bits (0.96) 422 and 413, 31B (0.95) 167 and 159; at 1 bit 31B (0.79 with 512 lanes) 248
    // and 259, 12B (0.79 with 384) 514 and 533.
    p.skip = useful() < 0.9;

    const uint32_t team = std::min(p.width / c.subgroup_size, 16u);
    p.parts = std::clamp(tuning.parts ? tuning.parts : p.workgroups / m.shape.heads, 1u, most_parts);
    // As many as registers allow. 12B at 4 bits, 0 and 11,000 positions, with 2, 3, 4: 416, 254; 419, 270; 394, 269 tokens/s.
    p.keys = bits == 3 || bits == 8 ? 2 : bits == 1 || p.width < 512 ? 4 : 3;
    p.shortest = tuning.shortest ? tuning.shortest : 128;

    const uint32_t splits = 32 / std::min(32u, c.subgroup_size);
    auto sums = [&](uint32_t rows, int64_t in) { return rows * (parts(in) * splits | 1) * 4; };
    const uint32_t all_sums = std::max(
        {sums(2 * p.inner_share, hidden), sums(p.hidden_share, q), sums(p.hidden_share, inner), sums(p.qkv_share, hidden)});
    const uint32_t entry_bytes = bits == 2 ? 8 : 4, table = bits == 1 ? 0 : (bits == 3 ? 64 : 256) * entry_bytes;
    p.copies = 128 / entry_bytes;
    const uint32_t attention = 4 * std::max(team * (2 + m.shape.head_dim), p.parts * (m.shape.head_dim + 2));
    const uint32_t centroids = bits == 1 ? 0 : (1u << bits) * 4;
    // Beside the pool: shares of steps, addresses, q of a head, the new key and value.
    const uint32_t beside = 5 * (p.width / 32 + 1) * 16 + 32 * 8 + m.shape.head_dim * 8 + 64;
    const uint32_t budget = std::min(c.shared_memory_bytes, 49152u) - beside - centroids;
    while (p.copies > 1 && p.copies * table + all_sums > budget) p.copies /= 2;
    if (std::max(p.copies * table + all_sums, attention) > budget) return "shared memory is too small";
    return "";
}

}  // namespace

// As packed_layers.comp lays them out, with as many parts as there may be.
int64_t packed_layers_words(const HeadShape& shape, int64_t hidden, int64_t inner) {
    auto vector = [](int64_t columns) { return (columns + 1023) / 1024 * 512 + columns / 4; };
    const int64_t q = int64_t(shape.heads) * shape.head_dim, kv = int64_t(shape.kv_heads) * shape.head_dim;
    const int64_t partial = int64_t(shape.heads) * most_parts * (shape.head_dim + 2);
    return 3 * ((q + 2 * kv + vector(q) + 2 * (vector(hidden) + 512) + vector(inner) + partial + 3) / 4 * 4);
}

int64_t packed_layers_keys(const Capabilities& c, uint32_t heads) {
    return 4000 * int64_t(std::clamp(c.processors / heads, 1u, most_parts));
}

bool has_packed_layers(const Graph& g, const PackedLayersModel& model) {
    Plan p;
    return g.capabilities().workgroups_run_together && plan_for(g.capabilities(), model, {}, p).empty();
}

Tensor packed_layers(Graph& g, Tensor embedded, const PackedLayersModel& model, const PackedLayersMemory& memory,
                     const PackedLayersTuning& tuning) {
    const Capabilities& c = g.capabilities();
    Plan p;
    if (std::string why = plan_for(c, model, tuning, p); !why.empty()) fail("packed_layers: {}", why);
    const Layer& first = model.layers[0];
    const int64_t hidden = first.o.out(), inner = first.down.in, q = first.qkv.rows[0], kv = first.qkv.rows[1];
    std::vector<Access> table;
    double bytes = 0;
    for (const Layer& l : model.layers) {
        expect(l.attention_norm, {hidden}, l.attention_norm.dtype(), "packed_layers: attention_norm");
        expect(l.mlp_norm, {hidden}, l.mlp_norm.dtype(), "packed_layers: mlp_norm");
        for (Tensor cache : {l.cache_k, l.cache_v}) {
            expect(cache, {model.max_positions, kv}, cache.dtype(), "packed_layers: a cache");
            if (!aligned(g, cache, 16)) fail("packed_layers: {} must lie at a multiple of 16 bytes", cache.name());
        }
        for (const auto& [w, what] : {std::pair(&l.qkv, "qkv"), {&l.o, "o"}, {&l.gate_up, "gate_up"}, {&l.down, "down"}}) {
            check_packed(*w, fmt::format("packed_layers: {}", what));
            for (Tensor t : {w->indices, w->scales, w->centroids}) {
                table.push_back(in(t));
                bytes += double(t.bytes());
            }
        }
        table.insert(table.end(), {in(l.attention_norm), in(l.mlp_norm), inout(l.cache_k), inout(l.cache_v)});
        bytes += double(l.attention_norm.bytes() + l.mlp_norm.bytes()) + 0.5 * double(l.cache_k.bytes() + l.cache_v.bytes());
    }
    expect(embedded, {1, hidden}, DType::f32, "packed_layers: embedded");
    expect(model.rope_table, {model.rope_table.rows(), model.shape.head_dim}, DType::f32, "packed_layers: rope_table");
    expect(model.position, {1}, DType::u32, "packed_layers: position");
    expect(memory.handed_on, {packed_layers_words(model.shape, hidden, inner)}, DType::u32, "packed_layers: handed_on");
    expect(memory.turn, {1}, DType::u32, "packed_layers: turn");
    expect(memory.in_vain, {1}, DType::u32, "packed_layers: in_vain");
    if (model.max_positions < 1 || model.max_positions > INT32_MAX)
        fail("packed_layers: max_positions is {}, expected 1 .. {}", model.max_positions, INT32_MAX);

    const auto layers = uint32_t(model.layers.size());
    PackedLayersArgs args{.layers = layers,
                          .max_positions = uint32_t(model.max_positions),
                          .rope_positions = count32(model.rope_table.rows(), "packed_layers: rows of rope_table"),
                          .eps = model.eps,
                          .scale = float(std::numbers::log2e / std::sqrt(double(model.shape.head_dim)))};
    uint32_t* words = args.steps;
    auto step = [&](int64_t in, int64_t rows, uint32_t share, uint32_t first_quad) {
        const uint32_t parts = uint32_t((in / 32 + p.chunks * 32 - 1) / (p.chunks * 32)), groups = p.width / 32 / parts;
        *words++ = uint32_t(in / 32) | share << 16;
        *words++ = parts | groups << 16;
        *words++ = uint32_t(rows);
        *words++ = first_quad;
    };
    step(hidden, q, p.qkv_share, 0);
    step(q, hidden, p.hidden_share, 0);
    step(hidden, inner, p.inner_share, 0);
    step(hidden, inner, p.inner_share, uint32_t(inner / 32 * 8));
    step(inner, hidden, p.hidden_share, 0);
    const double weights = double(layers) * double(hidden * (q + 2 * kv) + q * hidden + 3 * inner * hidden);
    const double of_keys = 2.0 * double(layers) * double(model.max_positions) * double(q);  // of half a cache, as its bytes
    Tensor result = g.tensor({1, hidden}, DType::f32, "hidden");
    g.dispatch(Kernel{fmt::format("packed_layers_{}_{}", first.o.bits, name(first.cache_k.dtype())),
                      {p.width,
                       uint32_t(hidden),
                       uint32_t(inner),
                       uint32_t(q),
                       uint32_t(kv),
                       p.hidden_share,
                       p.inner_share,
                       p.qkv_share,
                       p.chunks,
                       uint32_t(std::countr_zero(p.copies)),
                       uint32_t(first.o.block_size / 32),
                       norm_kind(first.mlp_norm),
                       c.subgroup_size,
                       c.kind == DeviceKind::cpu,
                       tuning.patience ? tuning.patience : 1u << 19,
                       model.shape.head_dim,
                       p.parts,
                       p.shortest,
                       p.keys,
                       p.skip}},
               {in(g.address_table(std::move(table), "layers")), in(embedded), out(result), in(model.rope_table),
                in(model.position), inout(memory.handed_on), inout(memory.turn), out(memory.in_vain)},
               args, Grid{p.workgroups}, "layers", {.flops = 2 * weights + of_keys, .bytes = bytes});
    return result;
}

}  // namespace vkqat

#include "runtime/ops/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/ops/cast.h"
#include "runtime/ops/launch.h"
#include "shaders/args/attention.h"
#include "shaders/args/attention_units.h"

namespace vkqat {
namespace {

void check(const AttentionShape& s) {
    if (s.batch == 0 || s.seq_len == 0) fail("attention: batch {} x seq_len {} holds no tokens", s.batch, s.seq_len);
    if (s.batch > 65535 || s.heads > 65535) fail("attention: batch {} and heads {} must be at most 65535", s.batch, s.heads);
    if (s.head_dim < 2 || s.head_dim > 256 || s.head_dim % 2)
        fail("attention: head_dim must be even and 2 .. 256, found {}", s.head_dim);
    if (s.kv_heads == 0 || s.heads == 0 || s.heads % s.kv_heads)
        fail("attention: heads ({}) must be a multiple of kv_heads ({})", s.heads, s.kv_heads);
}

// Whether the rows of all tensors may be loaded as vec4: 16-byte alignment of the start (the plan's storages have it).
bool aligned(const Graph& g, std::initializer_list<Tensor> tensors) {
    for (Tensor t : tensors) {
        if (!t) continue;
        const Graph::TensorInfo& info = g.info(t);
        if ((info.offset + g.storages()[info.storage].address) % 16) return false;
    }
    return true;
}

// Both passes and the forward pass have the same constants: a subgroup wide, so no barriers.
Kernel kernel(Graph& g, const char* shader, const AttentionShape& s, const AttentionTile& tile, bool vector, bool documents) {
    return {shader, {g.capabilities().subgroup_size, s.head_dim, tile.split, tile.rows, tile.step, vector, documents}};
}

Grid grid(Graph& g, const AttentionShape& s, const AttentionTile& tile, uint32_t heads) {
    uint32_t rows = g.capabilities().subgroup_size / tile.split * tile.rows;
    return {(s.seq_len + rows - 1) / rows, heads, s.batch};
}

}  // namespace

AttentionTile attention_tile(const Capabilities& device, uint32_t head_dim, bool backward) {
    // On CPUs every loop over head_dim is unrolled `step` times: the larger, the faster it runs, but compiling takes seconds.
    if (device.kind == DeviceKind::cpu)
        return {
            .split = 1, .rows = 1, .step = backward ? std::clamp(128 / head_dim, 2u, 4u) : std::clamp(256 / head_dim, 2u, 8u)};
    // About 8 values of a row in each lane, so that 4 rows fit in registers (measured on an H200: 2 x the speed of 1 row).
    AttentionTile tile{.split = 1, .rows = 4, .step = 2};
    while (tile.split < std::min(device.subgroup_size, 16u) && head_dim / tile.split > 8 && head_dim % (8 * tile.split) == 0)
        tile.split *= 2;
    const uint32_t values = head_dim / tile.split, room = backward ? 32 : 48;
    while (tile.rows > 1 && tile.rows * values > room) tile.rows /= 2;
    return tile;
}

namespace {

Tensor portable_attention(Graph& g, Tensor qkv, const AttentionShape& shape, Tensor document_start, Tensor document_end,
                          const AttentionTile& tile) {
    const int64_t tokens = int64_t(shape.batch) * shape.seq_len;
    // Few rows: fewer of them in a subgroup, so that more subgroups work.
    auto chosen = [&](bool back) {
        AttentionTile t = tile.split ? tile : attention_tile(g.capabilities(), shape.head_dim, back);
        const uint32_t heads = back ? shape.kv_heads : shape.heads;
        constexpr uint32_t enough = 512;  // subgroups, four for each processor of an H200
        auto subgroups = [&] {
            const Grid all = grid(g, shape, t, heads);
            return uint64_t(all.x) * all.y * all.z;
        };
        while (!tile.split && t.rows > 1 && subgroups() < enough) t.rows /= 2;
        return t;
    };
    const AttentionTile forward = chosen(false), backward = chosen(true);
    const Capabilities& device = g.capabilities();
    // A share of dk and dv in shared memory for all ways but one, 16 bytes for each chunk of four.
    const uint32_t chunks = (shape.head_dim / backward.split + 3) / 4,
                   share = 2 * backward.rows * chunks * device.subgroup_size * 16;
    auto ways_fit = [&](uint32_t n) {
        return n * device.subgroup_size <= device.max_workgroup_invocations && (n - 1) * share <= device.shared_memory_bytes;
    };
    uint32_t ways = std::max(backward.ways, 1u);
    if (backward.ways == 0 && device.kind != DeviceKind::cpu) {
        const Grid all = grid(g, shape, backward, shape.kv_heads);
        constexpr uint64_t enough = 1024;  // subgroups
        while (ways < 8 && uint64_t(all.x) * all.y * all.z * ways < enough && ways_fit(2 * ways)) ways *= 2;
    }
    if (ways > 8 || !ways_fit(ways)) fail("attention: {} subgroups cannot share the queries here", ways);
    for (const AttentionTile& t : {forward, backward})
        if (!std::has_single_bit(t.split) || t.split > g.capabilities().subgroup_size || t.rows == 0 || t.step == 0 ||
            (t.split > 1 && shape.head_dim % (4 * t.split)))
            fail("attention: a tile of {} lanes, {} rows, step {} does not fit head_dim {}", t.split, t.rows, t.step,
                 shape.head_dim);

    Tensor y = g.tensor({tokens, shape.out_cols()}, DType::f32, "attention");
    const bool differentiable = g.training() && g.requires_gradient(qkv);
    Tensor lse = differentiable ? g.tensor({shape.batch, shape.heads, shape.seq_len}, DType::f32, "attention.lse") : Tensor();
    const float scale = 1 / std::sqrt(float(shape.head_dim));
    const bool fours = shape.head_dim % 4 == 0;
    // Half of the pairs lie above the diagonal; how many more documents cut off is not known here.
    const double pairs = 0.5 * double(tokens) * (shape.seq_len + 1.0) * shape.heads;
    g.dispatch(kernel(g, "attention_forward", shape, forward, fours && aligned(g, {qkv, y}), bool(document_start)),
               {in(qkv), in(document_start), in(document_end), out(y), out(lse)},
               AttentionArgs{.seq_len = shape.seq_len, .heads = shape.heads, .kv_heads = shape.kv_heads, .scale = scale},
               grid(g, shape, forward, shape.heads), "attention", {.flops = 4 * pairs * shape.head_dim});
    g.on_backward(y, {qkv}, [=](Graph& graph, Tensor dy) {
        GradientSlot slot = graph.gradient_slot(qkv);
        Tensor delta = graph.like(lse, "attention.delta");
        const bool vector = fours && aligned(graph, {qkv, y, dy, slot.base, slot.out});
        const AttentionGradientArgs args{
            .seq_len = shape.seq_len, .heads = shape.heads, .kv_heads = shape.kv_heads, .scale = scale};
        graph.dispatch(
            kernel(graph, "attention_gradient_q", shape, backward, vector, bool(document_start)),
            {in(qkv), in(document_start), in(document_end), in(y), in(lse), in(dy), out(delta), in(slot.base), out(slot.out)},
            args, grid(graph, shape, backward, shape.heads), "attention.dq", {.flops = 6 * pairs * shape.head_dim});
        // The q pass wrote the q columns, this one writes the others.
        Kernel kv = kernel(graph, "attention_gradient_kv", shape, backward, vector, bool(document_start));
        kv.constants[0] *= ways;
        kv.constants.insert(kv.constants.end(), {false, ways});
        graph.dispatch(
            kv,
            {in(qkv), in(document_start), in(document_end), Access{}, in(lse), in(dy), in(delta), in(slot.base), out(slot.out)},
            args, grid(graph, shape, backward, shape.kv_heads), "attention.dkv", {.flops = 8 * pairs * shape.head_dim});
    });
    return y;
}

// The kernels of the three passes, or nothing if one of them has none.
struct UnitsChoice {
    AttentionChoice forward, gradient_q, gradient_kv;
};
std::optional<UnitsChoice> on_matrix_units(const Graph& g, const AttentionShape& s, const AttentionOptions& o) {
    // Offsets within a sequence have 32 bits.
    if (uint64_t(s.seq_len) * s.qkv_cols() * 4 >= uint64_t(1) << 32) return {};
    auto choose = [&](AttentionPass pass, const std::optional<AttentionBlock>& wanted) {
        return choose_attention(g.capabilities(), g.precision(), pass, s.head_dim, s.heads / s.kv_heads, wanted);
    };
    auto forward = choose(AttentionPass::forward, o.forward), q = choose(AttentionPass::gradient_q, o.gradient_q),
         kv = choose(AttentionPass::gradient_kv, o.gradient_kv);
    if (!forward || !q || !kv) return {};
    return UnitsChoice{*forward, *q, *kv};
}

Kernel units_kernel(const char* shader, DType type, const AttentionChoice& choice, bool documents, bool base) {
    Kernel k{fmt::format("attention_units_{}_{}", shader, name(type)), choice.constants};
    k.constants.insert(k.constants.end(), {documents, base});
    return k;
}

Grid units_grid(const AttentionShape& s, const AttentionChoice& choice, uint32_t heads) {
    const uint32_t positions = choice.rows / choice.heads;
    return {(s.seq_len + positions - 1) / positions, heads / choice.heads, s.batch};
}

Tensor units_attention(Graph& g, Tensor qkv, const AttentionShape& shape, Tensor document_start, Tensor document_end,
                       const UnitsChoice& choice) {
    const int64_t tokens = int64_t(shape.batch) * shape.seq_len;
    const DType type = product_type(g);
    const bool rounded = qkv.dtype() == type;
    if (rounded && !aligned(g, qkv, 16))
        fail("attention: '{}' does not start at a multiple of 16 bytes, as it must in {}", qkv.name(), name(type));
    Tensor y = g.tensor({tokens, shape.out_cols()}, qkv.dtype(), "attention");
    const bool differentiable = g.training() && g.requires_gradient(qkv), documents = bool(document_start);
    Tensor lse = differentiable ? g.tensor({shape.batch, shape.heads, shape.seq_len}, DType::f32, "attention.lse") : Tensor();
    const float scale = 1 / std::sqrt(float(shape.head_dim));
    const double pairs = 0.5 * double(tokens) * (shape.seq_len + 1.0) * shape.heads;
    Kernel kernel = units_kernel("forward", type, choice.forward, documents, false);
    kernel.constants.push_back(rounded);
    g.dispatch(kernel, {in(cast(g, qkv, type)), in(document_start), in(document_end), out(y), out(lse)},
               AttentionUnitsArgs{.seq_len = shape.seq_len, .heads = shape.heads, .kv_heads = shape.kv_heads, .scale = scale},
               units_grid(shape, choice.forward, shape.heads), "attention", {.flops = 4 * pairs * shape.head_dim});
    g.on_backward(y, {qkv}, [=](Graph& graph, Tensor dy) {
        GradientSlot slot = graph.gradient_slot(qkv);
        for (Tensor t : {dy, slot.base, slot.out})
            if (t && !aligned(graph, t, 16))
                fail("attention: '{}' does not start at a multiple of 16 bytes, as gradients on matrix units must", t.name());
        Tensor delta = graph.like(lse, "attention.delta"), dy16 = graph.tensor(dy.shape(), type, "attention.dy");
        const uint32_t width = graph.capabilities().subgroup_size;
        const int64_t rows = tokens * shape.heads;
        uint32_t split = 1;
        while (2 * split <= width && shape.head_dim / 8 % (2 * split) == 0) split *= 2;
        graph.dispatch(Kernel{fmt::format("attention_units_delta_{}", name(type)), {width, shape.head_dim, split, rounded}},
                       {in(y), in(dy), out(dy16), out(delta)},
                       AttentionDeltaArgs{.seq_len = shape.seq_len, .heads = shape.heads, .rows = uint32_t(rows)},
                       linear_grid((rows + width / split - 1) / (width / split)), "attention.delta");
        Tensor x = cast(graph, qkv, type);  // again: it would be kept from the forward pass on
        const AttentionUnitsGradientArgs args{
            .seq_len = shape.seq_len, .heads = shape.heads, .kv_heads = shape.kv_heads, .scale = scale};
        graph.dispatch(units_kernel("gradient_q", type, choice.gradient_q, documents, bool(slot.base)),
                       {in(x), in(document_start), in(document_end), in(dy16), in(lse), in(delta), in(slot.base), out(slot.out)},
                       args, units_grid(shape, choice.gradient_q, shape.heads), "attention.dq",
                       {.flops = 6 * pairs * shape.head_dim});
        // The q pass wrote the q columns, this one writes the others.
        graph.dispatch(units_kernel("gradient_kv", type, choice.gradient_kv, documents, bool(slot.base)),
                       {in(x), in(document_start), in(document_end), in(dy16), in(lse), in(delta), in(slot.base), out(slot.out)},
                       args, units_grid(shape, choice.gradient_kv, shape.kv_heads), "attention.dkv",
                       {.flops = 8 * pairs * shape.head_dim});
    });
    return y;
}

}  // namespace

DType attention_type(const Graph& g, const AttentionShape& shape, const AttentionOptions& options) {
    check(shape);
    return options.variant != AttentionVariant::portable && on_matrix_units(g, shape, options) ? product_type(g) : DType::f32;
}

Tensor attention(Graph& g, Tensor qkv, const AttentionShape& shape, Tensor document_start, Tensor document_end,
                 const AttentionOptions& options) {
    check(shape);
    const int64_t tokens = int64_t(shape.batch) * shape.seq_len;
    const DType type = attention_type(g, shape, options);
    if (!qkv) fail("attention: qkv is absent");
    expect(qkv, {tokens, shape.qkv_cols()}, qkv.dtype() == type ? type : DType::f32, "attention: qkv");
    if (bool(document_start) != bool(document_end)) fail("attention: give both of document_start and document_end, or neither");
    if (document_start) {
        expect(document_start, {shape.batch, shape.seq_len}, DType::i32, "attention: document_start");
        expect(document_end, {shape.batch, shape.seq_len}, DType::i32, "attention: document_end");
    }
    if (options.variant != AttentionVariant::portable) {
        if (auto choice = on_matrix_units(g, shape, options))
            return units_attention(g, qkv, shape, document_start, document_end, *choice);
        if (options.variant == AttentionVariant::matrix_units)
            fail("attention: {} has no matrix units for head_dim {} in the graph's precision, or the block does not fit",
                 g.capabilities().name, shape.head_dim);
    }
    return portable_attention(g, qkv, shape, document_start, document_end, options.tile);
}

}  // namespace vkqat

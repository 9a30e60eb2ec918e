#include "runtime/ops/ternary_linear.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <optional>

#include "runtime/ops/launch.h"
#include "runtime/ops/matmul.h"
#include "runtime/vulkan/shader_table.h"
#include "shaders/args/ternary_linear.h"

namespace vkqat {
namespace {

constexpr int64_t longest_row = int64_t(1) << 19;  // sums of a lane stay within 32 bits

int64_t chunk_columns(const TernaryLayer& w) { return w.five_to_a_byte ? 80 : 64; }
int64_t chunks_of(const TernaryLayer& w) { return (w.in + chunk_columns(w) - 1) / chunk_columns(w); }

PackedLayer like_packed(const TernaryLayer& w) {
    return {.centroids = w.centroids, .bits = 2, .block_size = w.in, .in = w.in, .rows = w.rows};
}

void check(const TernaryLayer& w, const std::string& what) {
    expect(w.indices, {ternary_words(w.rows, w.in, w.five_to_a_byte)}, DType::u32, what + ": indices");
    expect(w.scales, {w.out()}, DType::bf16, what + ": scales");
    expect(w.centroids, {int64_t(w.rows.size()), 4}, DType::f32, what + ": centroids");
}

struct Launch {
    uint32_t width = 0, tiles = 1, depth = 1, slab_chunks = 0, copies = 1, group = 1;
};

// Workgroups of so many tokens, or nothing if their activations do not fit.
std::optional<Launch> launch_of(const Capabilities& c, const TernaryLayer& w, bool swiglu, uint32_t group,
                                const MatvecTuning& tuning) {
    const auto chunks = uint32_t(chunks_of(w)), columns = uint32_t(chunk_columns(w));
    const uint32_t units =
        swiglu ? packed_parts(w.rows.empty() ? PackedLayer{} : like_packed(w)).first_tile[1] : packed_parts(like_packed(w)).tiles;
    Launch s{.group = group};
    // Measured on an H200. More tiles share the table of five to a byte; many workgroups are better narrow.
    const bool many = units >= (swiglu ? 400u : 640u) && group <= 2;
    s.tiles = tuning.tiles ? tuning.tiles : many && w.five_to_a_byte ? 4 : (many && !swiglu) || swiglu ? 2 : 1;
    const uint32_t most = std::bit_floor(std::min(c.max_workgroup_invocations, many && !w.five_to_a_byte ? 256u : 512u));
    s.width = tuning.width ? std::min(tuning.width, std::bit_floor(c.max_workgroup_invocations))
                           : std::clamp(std::bit_ceil(chunks) * 32, 64u, most);
    // Sums of all parts in at most 16 KB.
    if (!tuning.width) s.width = std::max(64u, std::min(s.width, std::bit_floor(128 / (s.tiles * group)) * 32));
    const uint32_t parts = s.width / 32;
    s.depth = tuning.depth ? tuning.depth : std::clamp(std::bit_floor(chunks / parts), 1u, s.tiles > 2 ? 2u : 4u);
    const uint32_t budget = std::min(c.shared_memory_bytes, 49152u);
    auto try_copies = [&](uint32_t copies, bool whole) {
        const uint32_t other =
            parts * s.tiles * group * 128 + s.width * 3 / 2 + group * s.width / 2 + (w.five_to_a_byte ? copies * 2048 : 0);
        if (other >= budget) return false;
        const uint32_t unit = parts * s.depth, fit = (budget - other) / (group * columns) / unit * unit;
        const uint32_t all = (chunks + unit - 1) / unit * unit;
        if (fit == 0 || (whole && fit < all)) return false;
        s.copies = copies;
        s.slab_chunks = std::min(fit, all);
        if (tuning.slab) s.slab_chunks = std::clamp(tuning.slab / columns / unit * unit, unit, s.slab_chunks);
        return true;
    };
    if (tuning.copies) return try_copies(tuning.copies, false) ? std::optional(s) : std::nullopt;
    for (bool whole : {true, false})
        for (uint32_t copies : {16u, 8u})
            if (try_copies(copies, whole)) return s;
    for (; s.depth > 1; s.depth /= 2)
        if (try_copies(8, false)) return s;
    for (uint32_t copies : {8u, 4u, 2u, 1u})
        if (try_copies(copies, false)) return s;
    return {};
}

std::string shader_of(std::string_view shader, const TernaryLayer& w, std::string_view end = "") {
    return fmt::format("{}_{}{}", shader, w.five_to_a_byte ? 5 : 2, end);
}

}  // namespace

int64_t TernaryLayer::out() const { return std::accumulate(rows.begin(), rows.end(), int64_t(0)); }

int64_t ternary_words(const std::vector<int64_t>& rows, int64_t in, bool five_to_a_byte) {
    const int64_t columns = five_to_a_byte ? 80 : 64;
    return packed_extents(rows, in, 2, in).tiles * ((in + columns - 1) / columns) * 128;
}

void tile_ternary(Graph& g, Tensor packed, const TernaryLayer& layer, int64_t first_tile) {
    check(layer, "tile_ternary");
    const int64_t rows = packed.rows(), row_tiles = (rows + 31) / 32, work = row_tiles * chunks_of(layer) * 32;
    if (rows < 1 || first_tile < 0 || first_tile + row_tiles > packed_parts(like_packed(layer)).tiles || work >= int64_t(1) << 32)
        fail("tile_ternary: {} rows from tile {} on do not fit", rows, first_tile);
    expect(packed, {rows, layer.five_to_a_byte ? (layer.in + 4) / 5 : layer.in / 4}, DType::u8, "tile_ternary: packed");
    g.dispatch(Kernel{shader_of("ternary_tile", layer), {64}}, {in(packed), inout(layer.indices)},
               TileTernaryArgs{.rows = uint32_t(rows), .in_cols = uint32_t(layer.in), .first_tile = uint32_t(first_tile)},
               linear_grid((work + 63) / 64), "tile_ternary");
}

PackedLayer ternary_as_packed(Graph& g, const TernaryLayer& w) {
    check(w, "ternary_as_packed");
    PackedLayer packed = like_packed(w);
    const PackedExtents e = packed_extents(w.rows, w.in, 2, w.in);
    packed.indices = g.tensor({e.words}, DType::u32, "ternary.indices");
    packed.scales = g.tensor({e.scales}, DType::bf16, "ternary.scales");
    const PackedParts parts = packed_parts(packed);
    int64_t row = 0;
    for (size_t i = 0; i < w.rows.size(); row += w.rows[i++]) {
        const int64_t work = w.rows[i] * chunks_of(w);
        if (work >= int64_t(1) << 32) fail("ternary_as_packed: a weight [{}, {}] is too large", w.rows[i], w.in);
        Tensor stored = g.tensor({w.rows[i], w.in / 4}, DType::u8, "ternary.stored");
        g.dispatch(Kernel{shader_of("ternary_unpack", w), {64}}, {in(w.indices), in(Tensor()), out(stored)},
                   UnpackTernaryArgs{.rows = uint32_t(w.rows[i]), .in_cols = uint32_t(w.in), .first_tile = parts.first_tile[i]},
                   linear_grid((work + 63) / 64), "ternary_unpack");
        tile_packed(g, stored, g.view(w.scales, uint64_t(row) * 2, {w.rows[i], 1}, "ternary.scales"), packed,
                    parts.first_tile[i]);
    }
    return packed;
}

bool can_ternary_linear(const Capabilities& c, const TernaryLayer& w) {
    return c.subgroup_size >= 8 && c.max_workgroup_invocations >= 128 && w.in <= longest_row && launch_of(c, w, true, 1, {});
}

Tensor ternary_linear(Graph& g, Tensor x, const TernaryLayer& w, const std::string& label, const LinearFusion& fusion,
                      const TernaryInput& input, const TernaryVariant& variant) {
    check(w, label);
    if (fusion.swiglu && (w.rows.size() != 2 || w.rows[0] != w.rows[1]))
        fail("{}: swiglu needs two parts of the same size", label);
    expect(x, {x.rows(), w.in}, DType::f32, label + ": x");
    if (g.requires_gradient(x)) fail("{}: a packed weight is for inference, but '{}' requires a gradient", label, x.name());
    const Capabilities& c = g.capabilities();
    if (!can_ternary_linear(c, w)) fail("{}: {} cannot multiply rows of {}", label, c.name, w.in);
    const int64_t tokens = x.rows();
    Tensor y = g.tensor({tokens, fusion.swiglu ? w.rows[0] : w.out()}, DType::f32, label);
    if (fusion.norm) expect(fusion.norm, {w.in}, fusion.norm.dtype(), label + ": norm");
    if (fusion.residual) expect(fusion.residual, y.shape(), DType::f32, label + ": residual");
    if (tokens == 0) return y;
    count32(tokens, label + ": tokens");

    std::optional<Launch> shape;
    for (auto group = uint32_t(std::min<int64_t>(8, int64_t(std::bit_ceil(uint64_t(tokens))))); group != 0 && !shape; group /= 2)
        shape = launch_of(c, w, fusion.swiglu, group, variant.tuning);
    if (!shape) fail("{}: {} bytes of shared memory are too few", label, c.shared_memory_bytes);
    const bool vector = w.in % 4 == 0 && aligned(g, x, 16) && (!fusion.norm || aligned(g, fusion.norm, 16));
    const bool quantized = variant.quantized >= 0 ? variant.quantized != 0 : tokens > 1;
    Tensor q = x, factors;
    if (quantized) {
        const int64_t padded = chunks_of(w) * chunk_columns(w);
        q = g.tensor({tokens, padded}, DType::u8, label + ".integers");
        factors = g.tensor({tokens, 2}, DType::f32, label + ".factors");
        const uint32_t width = std::bit_floor(std::min(c.max_workgroup_invocations, 512u));
        g.dispatch(Kernel{shader_of("ternary_input", w), {width, norm_kind(fusion.norm), vector, input.second_norm}},
                   {in(x), in(fusion.norm), in(Tensor()), out(q), out(factors)},
                   TernaryInputArgs{.tokens = uint32_t(tokens),
                                    .in_cols = uint32_t(w.in),
                                    .padded = uint32_t(padded),
                                    .eps = fusion.eps,
                                    .second_eps = input.second_eps},
                   linear_grid(tokens), label + ".integers");
    }
    const PackedParts parts = packed_parts(like_packed(w));
    const std::string with_dot = shader_of("ternary_matvec", w, "_dot");
    const bool dot = variant.dot >= 0 ? variant.dot != 0 : g.capabilities().byte_dot && find_shader(with_dot);
    const uint32_t together = fusion.swiglu ? shape->tiles / 2 : shape->tiles;
    Grid grid = linear_grid(((fusion.swiglu ? parts.first_tile[1] : parts.tiles) + together - 1) / together);
    const int64_t groups = (tokens + shape->group - 1) / shape->group;
    if (groups > 65535) fail("{}: {} tokens at once are too many", label, tokens);
    grid.z = uint32_t(groups);
    g.dispatch(Kernel{dot ? with_dot : shader_of("ternary_matvec", w),
                      {shape->width, shape->group, shape->tiles, shape->depth, shape->slab_chunks,
                       uint32_t(std::countr_zero(shape->copies)), quantized ? 0 : norm_kind(fusion.norm), vector, fusion.swiglu,
                       quantized, input.second_norm && !quantized}},
               {in(q), in(factors), in(w.indices), in(w.scales), in(w.centroids), in(quantized ? Tensor() : fusion.norm),
                in(fusion.residual), out(y)},
               TernaryLinearArgs{.tokens = uint32_t(tokens),
                                 .in_cols = uint32_t(w.in),
                                 .y_cols = uint32_t(y.cols()),
                                 .tiles_1 = parts.first_tile[1],
                                 .tiles_2 = parts.first_tile[2],
                                 .rows_0 = parts.rows[0],
                                 .rows_1 = parts.rows[1],
                                 .rows_2 = parts.rows[2],
                                 .tiles = parts.tiles,
                                 .eps = fusion.eps,
                                 .second_eps = input.second_eps},
               grid, label, {.flops = 2.0 * double(tokens) * double(w.out()) * double(w.in)});
    return y;
}

Tensor ternary_values(Graph& g, const TernaryLayer& w, size_t part, const std::string& name) {
    check(w, name);
    if (part >= w.rows.size()) fail("{}: part {} of {}", name, part, w.rows.size());
    const int64_t rows = w.rows[part], work = (rows + 3) / 4 * 4 * chunks_of(w) * (chunk_columns(w) / 8);
    if (work >= int64_t(1) << 32) fail("{}: a weight [{}, {}] is too large", name, rows, w.in);
    const int64_t row = std::accumulate(w.rows.begin(), w.rows.begin() + long(part), int64_t(0));
    Tensor weight = g.tensor({rows, w.in}, DType::bf16, name);
    g.dispatch(
        Kernel{shader_of("ternary_unpack", w, "_bf16"), {128}},
        {in(w.indices), in(g.view(w.scales, uint64_t(row) * 2, {rows}, "ternary.scales")), out(weight)},
        UnpackTernaryArgs{
            .rows = uint32_t(rows), .in_cols = uint32_t(w.in), .first_tile = packed_parts(like_packed(w)).first_tile[part]},
        linear_grid((work + 127) / 128), name);
    return weight;
}

bool has_ternary_matmul(const Capabilities& device) { return has_matrix_units(device, Precision::bf16); }

Tensor ternary_matmul(Graph& g, Tensor x, const TernaryLayer& w, const std::string& label, const LinearFusion& fusion,
                      const TernaryInput& input) {
    check(w, label);
    if (fusion.swiglu) fail("{}: no SwiGLU here", label);
    expect(x, {x.rows(), w.in}, DType::f32, label + ": x");
    if (g.requires_gradient(x)) fail("{}: a packed weight is for inference, but '{}' requires a gradient", label, x.name());
    const Capabilities& c = g.capabilities();
    if (!has_ternary_matmul(c)) fail("{}: {} has no matrix units for bf16", label, c.name);
    const int64_t tokens = x.rows(), parts = int64_t(w.rows.size());
    Tensor y = g.tensor({tokens, w.out()}, DType::f32, label);
    if (fusion.norm) expect(fusion.norm, {w.in}, fusion.norm.dtype(), label + ": norm");
    if (fusion.residual) expect(fusion.residual, y.shape(), DType::f32, label + ": residual");
    if (tokens == 0) return y;
    const bool vector = aligned(g, x, 16) && (!fusion.norm || aligned(g, fusion.norm, 16));
    Tensor q = g.tensor({tokens, w.in}, DType::bf16, label + ".integers");
    Tensor factors = g.tensor({parts, tokens}, DType::f32, label + ".factors");
    g.dispatch(
        Kernel{"ternary_input_bf16",
               {std::bit_floor(std::min(c.max_workgroup_invocations, 512u)), norm_kind(fusion.norm), vector, input.second_norm}},
        {in(x), in(fusion.norm), in(w.centroids), out(q), out(factors)},
        TernaryInputArgs{.tokens = count32(tokens, label + ": tokens"),
                         .in_cols = uint32_t(w.in),
                         .parts = uint32_t(parts),
                         .eps = fusion.eps,
                         .second_eps = input.second_eps},
        linear_grid(tokens), label + ".integers");
    int64_t row = 0;
    for (size_t i = 0; i < w.rows.size(); row += w.rows[i++]) {
        Tensor weight = ternary_values(g, w, i, label + ".weight");
        matmul(g, Product::nt, q, weight, fusion.residual, y, label,
               {.variant = MatmulVariant::matrix_units,
                .precision = Precision::bf16,
                .first_column = row,
                .factors = g.view(factors, i * uint64_t(tokens) * 4, {tokens}, "ternary.factors")});
    }
    return y;
}

}  // namespace vkqat

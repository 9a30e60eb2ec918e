#include "runtime/ops/packed_linear.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <optional>

#include "runtime/ops/add.h"
#include "runtime/ops/launch.h"
#include "runtime/ops/matrix_fragments.h"
#include "runtime/ops/packed_dequantize.h"
#include "runtime/vulkan/shader_table.h"
#include "shaders/args/packed_linear.h"

namespace vkqat {
namespace {

constexpr int64_t tile_rows = 32, step_columns = 128;

int64_t tiles_of(int64_t rows) { return (rows + tile_rows - 1) / tile_rows; }

std::string of_bits(std::string_view shader, const PackedLayer& w) { return fmt::format("{}_{}", shader, w.bits); }

// One launch: a kernel and how many workgroups cover the tiles; each serves `tokens` tokens.
struct Launch {
    Kernel kernel;
    int64_t workgroups = 0;
    uint32_t tokens = 1;
};

Launch rows_launch(const Capabilities& c, const PackedLayer& w, int64_t tokens, int64_t tiles) {
    auto group = uint32_t(std::min<int64_t>(8, int64_t(std::bit_ceil(uint64_t(tokens)))));
    uint32_t width = c.subgroup_size;
    return {{of_bits("packed_linear_rows", w), {width, group, w.block_size % 32 == 0}},
            (tiles * tile_rows + width - 1) / width,
            group};
}

bool can_matvec(const Capabilities& c, const PackedLayer& w) {
    return c.float16 && c.subgroup_size >= 8 && c.subgroup_size <= 64 && c.max_workgroup_invocations >= 256 &&
           c.shared_memory_bytes >= 32768 && w.block_size % 32 == 0;
}

// Whether the device's matrices of 16 x 8 x 16 lie in the lanes as packed_matvec_units.comp takes them.
bool can_units(const Capabilities& c, const PackedLayer& w) {
    return can_matvec(c, w) && known_matrix_fragments(c) && w.block_size % 64 == 0 &&
           find_shader(of_bits("packed_matvec_units", w));
}

uint32_t floor_power(uint64_t x) { return uint32_t(std::bit_floor(x)); }

// Whether workgroups of so many tiles each stay within parts.
bool together_fits(const PackedLayer& w, uint32_t tiles) {
    return std::all_of(w.rows.begin(), w.rows.end(), [&](int64_t r) { return tiles_of(r) % tiles == 0; });
}

// fp32 sums of four columns, looked up by four bits: 1 bit, one token.
Launch sums_launch(const Capabilities& c, const PackedLayer& w, const LinearFusion& fusion, const MatvecTuning& tuning,
                   bool vector, int64_t tiles) {
    const int64_t steps = (w.in + step_columns - 1) / step_columns;
    uint32_t most = std::min(floor_power(c.max_workgroup_invocations), c.shared_memory_bytes >= 40960 ? 512u : 256u);
    uint32_t width = tuning.width ? tuning.width : std::clamp(uint32_t(std::bit_ceil(uint64_t(steps))) * 32, 64u, most);
    // Tiles of a workgroup, gate and up counted; the sums are made once for them.
    uint32_t together = tuning.tiles                           ? tuning.tiles
                        : tiles >= 1024 && together_fits(w, 4) ? 4
                        : tiles >= 160 && together_fits(w, 2)  ? 2
                                                               : 1;
    if (fusion.swiglu && !tuning.tiles) together = tiles >= 1024 && together_fits(w, 2) ? 4 : 2;
    if (!together_fits(w, fusion.swiglu ? together / 2 : together))
        fail("packed_linear: parts are no multiples of {} tiles", together);
    uint32_t depth = tuning.depth ? tuning.depth : 2;
    const uint32_t buffers = width <= 256 && c.shared_memory_bytes >= 40960 ? 2 : 1;
    return {{"packed_matvec_sums",
             {width, together, depth, uint32_t(w.block_size / 32), norm_kind(fusion.norm), vector, fusion.swiglu,
              c.subgroup_size >= 32, buffers}},
            tiles / together};
}

// Tables of fp16 weights for each byte of indices; `group` tokens at once, on matrix units or not. Nothing if that takes too much
// shared memory.
std::optional<Launch> tables_launch(const Capabilities& c, const PackedLayer& w, const LinearFusion& fusion,
                                    const MatvecTuning& tuning, bool vector, uint32_t group, int64_t tiles, bool matrix_units) {
    const int64_t steps = (w.in + step_columns - 1) / step_columns;
    const uint32_t entries = w.bits == 3 ? 64 : w.bits == 1 && matrix_units ? 0 : 256;
    const uint32_t entry_bytes = w.bits == 1 ? 16 : w.bits == 2 ? 8 : 4;
    // As many copies as lanes that read at once, as far as half of the shared memory goes; less where activations need it.
    uint32_t copies = tuning.copies ? tuning.copies : std::min(128 / entry_bytes, 32u);
    const uint32_t budget = std::min(c.shared_memory_bytes, 49152u);
    if (!tuning.copies)
        while (copies > 1 && copies * entries * entry_bytes > budget * (group == 1 ? 11 : group <= 4 ? 6 : 4) / 16) copies /= 2;
    // Tiles of a workgroup, side by side and one after another: so many that some hundred workgroups are left (measured on an
    // H200: docs/performance.md).
    const int64_t units = fusion.swiglu ? tiles / 2 : tiles;
    const bool forced = tuning.width || tuning.tiles || tuning.turns;
    uint32_t together = tuning.tiles ? tuning.tiles : 1, turns = tuning.turns ? tuning.turns : 1;
    if (!forced && group == 1 && !matrix_units) {
        if ((units >= 1024 || (w.bits <= 2 && units >= 256)) && together_fits(w, 2))
            together = 2;
        else if (units >= 384 && together_fits(w, 4))
            turns = 4;
        else if (units >= 160 && together_fits(w, 2))
            turns = 2;
    }
    if (!together_fits(w, together * turns)) fail("packed_linear: parts are no multiples of {} tiles", together * turns);
    const uint32_t partials = turns > 1 || fusion.swiglu ? 2 : 1;
    uint32_t width = tuning.width ? tuning.width : std::min(floor_power(c.max_workgroup_invocations), 512u);
    if (!tuning.width) width = std::min(width, std::max(uint32_t(std::bit_ceil(uint64_t(steps))), 2u) * 32);
    width = std::max(width, 32 * group * together);
    uint32_t depth = tuning.depth ? tuning.depth : matrix_units || w.bits >= 2 ? 1 : 4, slab = tuning.slab;
    if (!slab) {
        // The largest slab that fits; shallower where that saves a pass.
        const uint32_t other = copies * entries * entry_bytes +
                               (partials * width / 32 + (fusion.swiglu ? turns : 0)) * together * group * 128 +
                               group * width / 2 + group * 16;
        if (other >= budget) return {};
        const int64_t most = int64_t(budget - other) * 8 / (17 * group);  // columns: 2 bytes and an eighth
        auto slabs = [&](uint32_t d) {
            int64_t unit = int64_t(4) * width * d, fit = most / unit * unit;
            return fit ? (steps * step_columns + fit - 1) / fit : INT64_MAX;
        };
        while (depth > 1 && (slabs(depth) == INT64_MAX || slabs(depth) > slabs(depth / 2))) depth /= 2;
        while (slabs(depth) == INT64_MAX && width > std::max(64u, 32 * group * together)) width /= 2;
        const int64_t unit = int64_t(4) * width * depth;
        if (slabs(depth) == INT64_MAX) return {};
        slab = uint32_t(std::min(most / unit * unit, (steps * step_columns + unit - 1) / unit * unit));
    }
    return Launch{{of_bits(matrix_units ? "packed_matvec_units" : "packed_matvec", w),
                   {width, group, together, depth, slab, uint32_t(std::countr_zero(copies)),
                    uint32_t(w.block_size / (matrix_units ? 64 : 32)), norm_kind(fusion.norm), vector, fusion.swiglu, turns,
                    w.in % step_columns == 0}},
                  (fusion.swiglu ? tiles / 2 : tiles) / (together * turns),
                  group};
}

Launch matvec_launch(const Capabilities& c, const PackedLayer& w, const LinearFusion& fusion, const MatvecTuning& tuning,
                     bool vector, int64_t tokens, int64_t tiles, bool matrix_units) {
    if (w.bits == 1 && tokens == 1 && !matrix_units) return sums_launch(c, w, fusion, tuning, vector, tiles);
    for (auto group = uint32_t(std::min<int64_t>(8, int64_t(std::bit_ceil(uint64_t(tokens))))); group != 0; group /= 2)
        if (auto launch = tables_launch(c, w, fusion, tuning, vector, group, tiles, matrix_units)) return *launch;
    fail("packed_linear: {} bytes of shared memory are too few", c.shared_memory_bytes);
}

// Matrix units serve several tokens at once; for one they are slower in whole models (H200: 31B at 1 bit 119 tokens/s against
// 147; a matvec of 4096 x 14336 alone 13.3 us against 17.7, but 21504 x 6144 with its norm 61 against 44).
PackedLinearVariant chosen(const Capabilities& c, const PackedLayer& w, int64_t tokens, PackedLinearVariant variant) {
    if (variant != PackedLinearVariant::automatic) return variant;
    if (c.kind == DeviceKind::cpu || !can_matvec(c, w)) return PackedLinearVariant::rows;
    return tokens > 1 && can_units(c, w) ? PackedLinearVariant::units : PackedLinearVariant::matvec;
}

}  // namespace

int64_t packed_linear_tokens(const Capabilities& device, const PackedLayer& w) { return can_units(device, w) ? 8 : 4; }

PackedParts packed_parts(const PackedLayer& w) {
    PackedParts p;
    for (size_t i = 0; i < p.rows.size(); i++) {
        p.first_tile[i] = p.tiles;
        if (i >= w.rows.size()) continue;
        p.rows[i] = uint32_t(w.rows[i]);
        p.tiles += uint32_t(tiles_of(w.rows[i]));
    }
    return p;
}

void check_packed(const PackedLayer& w, const std::string& what) {
    PackedExtents e = packed_extents(w.rows, w.in, w.bits, w.block_size);
    expect(w.indices, {e.words}, DType::u32, what + ": indices");
    expect(w.scales, {e.scales}, DType::bf16, what + ": scales");
    expect(w.centroids, {int64_t(w.rows.size()), int64_t(1) << w.bits}, DType::f32, what + ": centroids");
}

int64_t PackedLayer::out() const { return std::accumulate(rows.begin(), rows.end(), int64_t(0)); }

PackedExtents packed_extents(const std::vector<int64_t>& rows, int64_t in, int bits, int64_t block_size) {
    if (bits != 1 && bits != 2 && bits != 3 && bits != 4 && bits != 8)
        fail("packed weight: {} bits; possible are 1, 2, 3, 4, 8", bits);
    if (rows.empty() || rows.size() > 3) fail("packed weight: {} parts; possible are 1 to 3", rows.size());
    PackedExtents e;
    for (int64_t r : rows) {
        if (r <= 0 || r >= int64_t(1) << 31) fail("packed weight: a part has {} rows", r);
        e.tiles += tiles_of(r);
    }
    if (in <= 0 || in >= int64_t(1) << 28 || e.tiles >= int64_t(1) << 26)
        fail("packed weight [{}, {}] is too large", e.tiles * tile_rows, in);
    if (block_size <= 0 || in % block_size != 0 || in * bits % 8 != 0)
        fail("packed weight with rows of {} at {} bits in blocks of {}: a row must be whole blocks and whole bytes", in, bits,
             block_size);
    e.steps = (in + step_columns - 1) / step_columns;
    e.blocks = in / block_size;
    e.words = e.tiles * e.steps * bits * 128;
    e.scales = e.tiles * e.blocks * tile_rows;
    return e;
}

void tile_packed(Graph& g, Tensor packed, Tensor scales, const PackedLayer& layer, int64_t first_tile) {
    check_packed(layer, "tile_packed");
    const int64_t rows = packed.rows(), blocks = layer.in / layer.block_size, padded = tiles_of(rows) * tile_rows;
    const int64_t tiles = packed_parts(layer).tiles;
    if (rows < 1 || first_tile < 0 || first_tile + tiles_of(rows) > tiles)
        fail("tile_packed: {} rows from tile {} on do not fit into {} tiles", rows, first_tile, tiles);
    expect(packed, {rows, layer.in * layer.bits / 8}, DType::u8, "tile_packed: packed");
    expect(scales, {rows, blocks}, DType::bf16, "tile_packed: scales");
    const int64_t runs = (layer.in + step_columns - 1) / step_columns * 4, work = padded * (runs + blocks);
    if (work >= int64_t(1) << 32) fail("tile_packed: a weight [{}, {}] is too large", rows, layer.in);
    g.dispatch(Kernel{of_bits("packed_tile", layer), {64}}, {in(packed), in(scales), inout(layer.indices), inout(layer.scales)},
               TilePackedArgs{.rows = uint32_t(rows),
                              .in_cols = uint32_t(layer.in),
                              .blocks = uint32_t(blocks),
                              .first_tile = uint32_t(first_tile)},
               linear_grid((work + 63) / 64), "tile_packed");
}

namespace {

void run(Graph& g, Tensor x, const PackedLayer& w, Tensor y, int64_t first_column, const std::string& label,
         const LinearFusion& fusion, PackedLinearVariant variant, const MatvecTuning& tuning) {
    check_packed(w, label);
    expect(x, {x.rows(), w.in}, DType::f32, "packed_linear: x");
    if (g.requires_gradient(x)) fail("packed_linear: a packed weight is for inference, but '{}' requires a gradient", x.name());
    const int64_t tokens = x.rows(), out_cols = fusion.swiglu ? w.rows[0] : w.out();
    if (y.dtype() != DType::f32 || y.rows() != tokens || first_column < 0 || first_column + out_cols > y.cols())
        fail("packed_linear: {} columns from {} on do not fit into {} {}", out_cols, first_column, y.name(), y.shape().text());
    if (fusion.norm) expect(fusion.norm, {w.in}, fusion.norm.dtype(), "packed_linear: norm");
    if (fusion.residual) expect(fusion.residual, y.shape(), DType::f32, "packed_linear: residual");
    if (tokens == 0) return;
    const Capabilities& c = g.capabilities();
    if (variant == PackedLinearVariant::matvec ? !can_matvec(c, w) : variant == PackedLinearVariant::units && !can_units(c, w))
        fail("packed_linear: this device or a block size of {} does not allow the variant", w.block_size);
    const PackedParts parts = packed_parts(w);
    const int64_t tiles = parts.tiles;
    const bool vector = w.in % 4 == 0 && aligned(g, x, 16) && (!fusion.norm || aligned(g, fusion.norm, 16));
    Launch launch = variant == PackedLinearVariant::rows
                        ? rows_launch(c, w, tokens, tiles)
                        : matvec_launch(c, w, fusion, tuning, vector, tokens, tiles, variant == PackedLinearVariant::units);
    Grid grid = linear_grid(launch.workgroups);
    const int64_t groups = (tokens + launch.tokens - 1) / launch.tokens;
    if (groups > 65535) fail("packed_linear: {} tokens at once are too many", tokens);
    grid.z = uint32_t(groups);
    g.dispatch(launch.kernel, {in(x), in(w.indices), in(w.scales), in(w.centroids), in(fusion.norm), in(fusion.residual), out(y)},
               PackedLinearArgs{.tokens = uint32_t(tokens),
                                .in_cols = uint32_t(w.in),
                                .block_size = uint32_t(w.block_size),
                                .y_cols = uint32_t(y.cols()),
                                .y_first = uint32_t(first_column),
                                .tiles_1 = parts.first_tile[1],
                                .tiles_2 = parts.first_tile[2],
                                .rows_0 = parts.rows[0],
                                .rows_1 = parts.rows[1],
                                .rows_2 = parts.rows[2],
                                .tiles = uint32_t(tiles),
                                .eps = fusion.eps},
               grid, label, {.flops = 2.0 * double(tokens) * double(w.out()) * double(w.in)});
}

}  // namespace

Tensor packed_linear(Graph& g, Tensor x, const PackedLayer& w, const std::string& label, const LinearFusion& fusion,
                     PackedLinearVariant variant, const MatvecTuning& tuning) {
    if (w.rows.empty()) fail("packed_linear: a weight without rows");
    if (fusion.swiglu && (w.rows.size() != 2 || w.rows[0] != w.rows[1]))
        fail("packed_linear: swiglu needs two parts of the same size");
    variant = chosen(g.capabilities(), w, x.rows(), variant);
    const int64_t tokens = x.rows();
    if (variant != PackedLinearVariant::rows) {
        Tensor y = g.tensor({tokens, fusion.swiglu ? w.rows[0] : w.out()}, DType::f32, label);
        run(g, x, w, y, 0, label, fusion, variant, tuning);
        return y;
    }
    return unfused(g, x, fusion, label, [&](Tensor normed, Tensor residual) {
        Tensor y = g.tensor({tokens, w.out()}, DType::f32, label);
        run(g, normed, w, y, 0, label, {}, variant, tuning);
        return residual ? add(g, residual, y, label + ".residual") : y;
    });
}

void packed_linear_into(Graph& g, Tensor x, const PackedLayer& w, Tensor y, int64_t first_column, const std::string& label,
                        PackedLinearVariant variant) {
    run(g, x, w, y, first_column, label, {}, chosen(g.capabilities(), w, x.rows(), variant), {});
}

Tensor dequantize(Graph& g, const PackedLayer& w, DType type) {
    check_packed(w, "dequantize");
    if (!is_float(type)) fail("dequantize: a weight cannot be {}", name(type));
    Tensor weight = g.tensor({w.out(), w.in}, type, "dequantized");
    if (!g.capabilities().quirks.barriers_are_slow && can_dequantize_tiles(g.capabilities(), w)) {
        dequantize_tiles(g, w, tile_range(w, 0, packed_parts(w).tiles), 1, weight, "dequantize");
        return weight;
    }
    const PackedParts parts = packed_parts(w);
    g.dispatch(Kernel{"packed_dequantize_" + std::string(name(type)), {g.capabilities().subgroup_size, uint32_t(w.bits)}},
               {in(w.indices), in(w.scales), in(w.centroids), out(weight)},
               DequantizeArgs{.in_cols = uint32_t(w.in),
                              .block_size = uint32_t(w.block_size),
                              .tiles_1 = parts.first_tile[1],
                              .tiles_2 = parts.first_tile[2],
                              .rows_0 = parts.rows[0],
                              .rows_1 = parts.rows[1],
                              .rows_2 = parts.rows[2]},
               linear_grid(w.out()), "dequantize");
    return weight;
}

}  // namespace vkqat

#include "runtime/ops/packed_linear.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <optional>

#include "runtime/ops/add.h"
#include "runtime/ops/launch.h"
#include "runtime/ops/packed_dequantize.h"
#include "runtime/vulkan/shader_table.h"
#include "shaders/args/packed_linear.h"

namespace vkqat {
namespace {

constexpr int64_t tile_rows = 32;

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
    return {{of_bits("packed_linear_rows", w), {width, group, w.block_size % 32 == 0, uint32_t(w.block_size)}},
            (tiles * tile_rows + width - 1) / width,
            group};
}

bool can_matvec(const Capabilities& c, const PackedLayer& w) {
    return c.float16 && c.subgroup_size >= 8 && c.subgroup_size <= 64 && c.max_workgroup_invocations >= 256 &&
           c.shared_memory_bytes >= 32768 && w.block_size % 32 == 0;
}

// A unit of 64 columns has one scale, and a lane two runs.
bool can_use_integers(const Capabilities& c, const PackedLayer& w) {
    return can_matvec(c, w) && w.bits <= 2 && w.block_size % 64 == 0 && find_shader(of_bits("packed_matvec", w) + "_integers");
}

// The last constants of packed_matvec.comp.
struct MatvecBlocks {
    uint32_t kind = 0;
    float center = 0;
    uint32_t norm_stride = 0;
};

// Lanes have runs of columns, workgroups have quads of rows (packed_matvec.comp); `group` tokens at once. Nothing if that takes
// too much shared memory.
std::optional<Launch> matvec_launch(const Capabilities& c, const PackedLayer& w, const LinearFusion& fusion,
                                    const MatvecTuning& tuning, bool vector, const MatvecBlocks& blocks,
                                    PackedLinearVariant variant, uint32_t group, int64_t tokens) {
    const uint32_t runs = uint32_t((w.in + 31) / 32), across = (runs + 31) / 32;
    const uint32_t most = std::min(c.max_workgroup_invocations, 1024u) / 32, usual = std::min(16u, most);
    const int64_t processors = c.processors ? c.processors : 132;  // where that is not known
    int64_t all = 0;                                               // quads
    for (int64_t r : w.rows) all += (r + 3) / 4;
    uint32_t chunks = std::max((across + most - 1) / most, tuning.chunks);
    // Several runs of a lane where that fills the workgroup. 1 bit, 43008 x 6144 with three: 25.3 us against 34.8. 2 bits, in
    // integers, where a processor has many rows: 65536 x 8192 46 us against 50 in fp16, 28672 x 4096 15.4 against 16.0, but 8192
    // x 8192 12.0 against 11.6 (H200, 2026-11-23).
    const bool may_use_integers =
        variant == PackedLinearVariant::automatic && can_use_integers(c, w) && c.byte_dot && blocks.kind == 0;
    const bool many_rows = all / processors >= (may_use_integers ? 50 : 100);
    const uint32_t most_chunks = w.bits == 1 ? 3 : w.bits == 2 && many_rows && !fusion.swiglu ? 2 : 1;
    if (group == 1 && !tuning.chunks)
        for (uint32_t n = 2; n <= most_chunks; n++)
            if (across % n == 0 && usual % (across / n) == 0) chunks = n;
    if (variant == PackedLinearVariant::integers) chunks += chunks % 2;
    const bool integers = variant == PackedLinearVariant::integers || (may_use_integers && chunks % 2 == 0);
    const uint32_t parts = (across + chunks - 1) / chunks;
    const uint32_t width = parts * 32 * std::max(1u, (tuning.width ? std::min(tuning.width / 32, most) : usual) / parts);
    const uint32_t groups = width / 32 / parts, passes = fusion.swiglu ? 2 : 1;
    const uint32_t cluster = std::min(c.subgroup_size, 32u), pitch = parts * (32 / cluster) | 1;
    // So many quads that each processor has a workgroup. Where their sums would not fit, rows are finished batch by batch, or, if
    // gate and up belong together, processors have several workgroups.
    const uint32_t row_bytes = passes * group * pitch * 4, most_sums = 12288;
    // Code costs time (docs/performance.md, 31B): two quads on their way pay only where many follow one another and a lane has
    // one run. gate_up of 12B at 4, 3, 2 bits: 26.9, 24.8, 22.3 us against 28.1, 26.4, 23.6; down 19.9 against 17.0 at 4 bits.
    const uint32_t depth = tuning.depth ? tuning.depth : fusion.swiglu && group == 1 && chunks == 1 ? 2 : 1;
    uint32_t quads = tuning.tiles, batch = 0;
    for (int64_t rounds = 1; quads == 0; rounds++) {
        const int64_t each = (all / passes + rounds * processors - 1) / (rounds * processors);
        // Whole rounds of all groups, where there are few. 65536 x 8192 at 4 bits: 76.5 us with them, 75.9 without.
        quads = uint32_t(each < 16 * groups ? (each + groups - 1) / groups * groups : each);
        if (fusion.swiglu && quads > groups && quads * 4 * row_bytes > most_sums) quads = 0;
    }
    if (!fusion.swiglu)
        for (uint32_t batches = 2; (batch ? batch * groups : quads) * 4 * row_bytes > most_sums && batch != depth; batches++)
            batch = ((quads + groups - 1) / groups + batches * depth - 1) / (batches * depth) * depth;
    const uint32_t table = w.bits == 1 ? 0 : w.bits == 3 ? 64 : 256, entry_bytes = w.bits == 2 && !integers ? 8 : 4;
    const uint32_t sums = (batch ? batch * groups : quads) * 4 * row_bytes;
    const uint32_t budget = std::min(c.shared_memory_bytes, 49152u) - (fusion.norm ? group * width / 2 : 4) - 16;
    uint32_t copies = tuning.copies ? tuning.copies : 128 / entry_bytes;
    while (copies > 1 && sums + copies * table * entry_bytes > budget) copies /= 2;
    if (sums + copies * table * entry_bytes > budget) return {};
    // Columns of x at a time, in bytes of two runs: two for each column, four for each run, eight at 1 bit.
    const uint32_t two_runs = w.bits == 1 && !integers ? 144 : 136;
    const uint32_t slab = std::min(runs * 32, tuning.slab ? tuning.slab : budget / two_runs * 64);
    const bool apart = w.bits == 1 && slab >= runs * 32 && (runs + 1) / 2 * two_runs + sums <= budget;
    int64_t workgroups = 0;
    for (int64_t r : w.rows) workgroups += (r + quads * 4 - 1) / (quads * 4);
    return Launch{{of_bits("packed_matvec", w) + (integers ? "_integers" : ""),
                   {width,
                    group,
                    parts,
                    chunks,
                    depth,
                    slab,
                    uint32_t(std::countr_zero(copies)),
                    uint32_t(w.block_size / 32),
                    norm_kind(fusion.norm),
                    vector,
                    fusion.swiglu,
                    quads,
                    cluster,
                    apart,
                    blocks.kind,
                    std::bit_cast<uint32_t>(blocks.center),
                    blocks.norm_stride,
                    batch,
                    slab >= runs * 32,
                    slab == w.in && tokens % group == 0}},
                  fusion.swiglu ? workgroups / 2 : workgroups,
                  group};
}

Launch matvec_launch(const Capabilities& c, const PackedLayer& w, const LinearFusion& fusion, const MatvecTuning& tuning,
                     bool vector, const MatvecBlocks& blocks, PackedLinearVariant variant, int64_t tokens) {
    for (auto group = uint32_t(std::min<int64_t>(4, int64_t(std::bit_ceil(uint64_t(tokens))))); group != 0; group /= 2)
        if (auto launch = matvec_launch(c, w, fusion, tuning, vector, blocks, variant, group, tokens)) return *launch;
    fail("packed_linear: {} bytes of shared memory are too few", c.shared_memory_bytes);
}

// Whether lanes have rows or runs of columns; with runs, automatic is still to be decided by the shape.
PackedLinearVariant chosen(const Capabilities& c, const PackedLayer& w, PackedLinearVariant variant) {
    if (variant != PackedLinearVariant::automatic) return variant;
    return c.kind == DeviceKind::cpu || !can_matvec(c, w) ? PackedLinearVariant::rows : PackedLinearVariant::automatic;
}

}  // namespace

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

PackedLayer packed_part(Graph& g, const PackedLayer& w, size_t part) {
    check_packed(w, "packed_part");
    if (part >= w.rows.size()) fail("packed_part: part {} of {}", part, w.rows.size());
    if (w.rows.size() == 1) return w;
    const PackedExtents e = packed_extents({w.rows[part]}, w.in, w.bits, w.block_size);
    const uint64_t tile = packed_parts(w).first_tile[part];
    const int64_t entries = int64_t(1) << w.bits;
    PackedLayer p = w;
    p.rows = {w.rows[part]};
    p.indices = g.view(w.indices, tile * uint64_t(e.words / e.tiles) * 4, {e.words}, w.indices.name());
    p.scales = g.view(w.scales, tile * uint64_t(e.scales / e.tiles) * 2, {e.scales}, w.scales.name());
    p.centroids = g.view(w.centroids, part * uint64_t(entries) * 4, {1, entries}, w.centroids.name());
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
    e.runs = (in + 31) / 32;
    e.blocks = in / block_size;
    e.words = e.tiles * e.runs * bits * 32;
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
    const int64_t runs = (layer.in + 31) / 32, work = padded * (runs + blocks);
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
         const LinearFusion& fusion, PackedLinearVariant variant, const MatvecTuning& tuning,
         const PackedAsymmetry& blocks = {}) {
    check_packed(w, label);
    expect(x, {x.rows(), w.in}, DType::f32, "packed_linear: x");
    if (g.requires_gradient(x)) fail("packed_linear: a packed weight is for inference, but '{}' requires a gradient", x.name());
    const int64_t tokens = x.rows(), out_cols = fusion.swiglu ? w.rows[0] : w.out();
    if (y.dtype() != DType::f32 || y.rows() != tokens || first_column < 0 || first_column + out_cols > y.cols())
        fail("packed_linear: {} columns from {} on do not fit into {} {}", out_cols, first_column, y.name(), y.shape().text());
    const auto all_parts = int64_t(w.rows.size());
    const bool norm_of_part = fusion.norm && !fusion.swiglu && all_parts > 1 && fusion.norm.shape() == Shape{all_parts, w.in};
    if (fusion.norm && !norm_of_part) expect(fusion.norm, {w.in}, fusion.norm.dtype(), "packed_linear: norm");
    if (fusion.residual) expect(fusion.residual, y.shape(), DType::f32, "packed_linear: residual");
    if (blocks.zeros) expect(blocks.zeros, {w.scales.elements()}, DType::u8, "packed_linear: zeros");
    if (blocks.negative_scales) expect(blocks.negative_scales, w.scales.shape(), DType::bf16, "packed_linear: negative scales");
    if (blocks.zeros && blocks.negative_scales) fail("packed_linear: blocks have zero points or two scales, not both");
    if (blocks.negative_scales && w.bits == 1) fail("packed_linear: two scales need 2 bits");
    if (tokens == 0) return;
    const Capabilities& c = g.capabilities();
    if (w.bits == 4 && !aligned(g, w.centroids, 16)) fail("{}: centroids must lie at a multiple of 16 bytes", label);
    if ((variant == PackedLinearVariant::matvec && !can_matvec(c, w)) ||
        (variant == PackedLinearVariant::integers && (!can_use_integers(c, w) || blocks.zeros || blocks.negative_scales)))
        fail("packed_linear: this device, {} bits or a block size of {} do not allow the variant", w.bits, w.block_size);
    const PackedParts parts = packed_parts(w);
    const int64_t tiles = parts.tiles;
    const bool vector = w.in % 4 == 0 && aligned(g, x, 16) && (!fusion.norm || aligned(g, fusion.norm, 16));
    const MatvecBlocks constants{.kind = blocks.zeros             ? 1u
                                         : blocks.negative_scales ? 2u
                                                                  : 0u,
                                 .center = blocks.center,
                                 .norm_stride = norm_of_part ? uint32_t(uint64_t(w.in) * bytes(fusion.norm.dtype())) : 0};
    Launch launch = variant == PackedLinearVariant::rows
                        ? rows_launch(c, w, tokens, tiles)
                        : matvec_launch(c, w, fusion, tuning, vector, constants, variant, tokens);
    Grid grid = linear_grid(launch.workgroups);
    const int64_t groups = (tokens + launch.tokens - 1) / launch.tokens;
    if (groups > 65535) fail("packed_linear: {} tokens at once are too many", tokens);
    grid.z = uint32_t(groups);
    g.dispatch(launch.kernel,
               {in(x), in(w.indices), in(w.scales), in(w.centroids), in(blocks.zeros ? blocks.zeros : blocks.negative_scales),
                in(fusion.norm), in(fusion.residual), out(y)},
               PackedLinearArgs{.tokens = uint32_t(tokens),
                                .in_cols = uint32_t(w.in),
                                .y_cols = uint32_t(y.cols()),
                                .y_first = uint32_t(first_column),
                                .tiles_1 = parts.first_tile[1],
                                .tiles_2 = parts.first_tile[2],
                                .rows_0 = parts.rows[0],
                                .rows_1 = parts.rows[1],
                                .rows_2 = parts.rows[2],
                                .eps = fusion.eps},
               grid, label, {.flops = 2.0 * double(tokens) * double(w.out()) * double(w.in)});
}

}  // namespace

Tensor packed_linear(Graph& g, Tensor x, const PackedLayer& w, const std::string& label, const LinearFusion& fusion,
                     PackedLinearVariant variant, const MatvecTuning& tuning) {
    if (w.rows.empty()) fail("packed_linear: a weight without rows");
    if (fusion.swiglu && (w.rows.size() != 2 || w.rows[0] != w.rows[1]))
        fail("packed_linear: swiglu needs two parts of the same size");
    variant = chosen(g.capabilities(), w, variant);
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

Tensor packed_asymmetric_linear(Graph& g, Tensor x, const PackedLayer& w, const PackedAsymmetry& blocks, const std::string& label,
                                const LinearFusion& fusion, const MatvecTuning& tuning) {
    if (w.rows.empty()) fail("packed_linear: a weight without rows");
    if (fusion.swiglu && (w.rows.size() != 2 || w.rows[0] != w.rows[1]))
        fail("packed_linear: swiglu needs two parts of the same size");
    Tensor y = g.tensor({x.rows(), fusion.swiglu ? w.rows[0] : w.out()}, DType::f32, label);
    run(g, x, w, y, 0, label, fusion, PackedLinearVariant::matvec, tuning, blocks);
    return y;
}

void packed_linear_into(Graph& g, Tensor x, const PackedLayer& w, Tensor y, int64_t first_column, const std::string& label,
                        PackedLinearVariant variant, Tensor norm, float eps) {
    variant = chosen(g.capabilities(), w, variant);
    if (norm && variant == PackedLinearVariant::rows) fail("packed_linear: a norm cannot be folded in here");
    run(g, x, w, y, first_column, label, {.norm = norm, .eps = eps}, variant, {});
}

bool packed_linear_folds(const Capabilities& device, const PackedLayer& w) {
    return device.kind != DeviceKind::cpu && can_matvec(device, w);
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

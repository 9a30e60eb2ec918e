#include "runtime/ops/packed_matmul.h"

#include <algorithm>
#include <array>

#include "runtime/ops/cast.h"
#include "runtime/ops/launch.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/packed_dequantize.h"
#include "runtime/vulkan/shader_table.h"
#include "shaders/args/packed_matmul.h"

namespace vkqat {
namespace {

// Steps divide the 128 columns of the packed layout; a block's rows of W are whole tiles of 32.
constexpr std::array<MatrixBlock, 7> blocks{{{128, 128, 64, 2, 4, 1, true, 100},
                                             {64, 64, 64, 2, 2, 1, true, 128},
                                             {64, 32, 128, 2, 1, 4, true, 96},
                                             {32, 32, 128, 2, 1, 4, true, 0},
                                             {16, 32, 128, 1, 1, 4, true, 0},
                                             {32, 32, 32, 2, 1, 2, true, 0},
                                             {32, 32, 32, 2, 2, 1, true, 0}}};

// Of the table: two neighbouring columns at once where that has few entries.
uint32_t table_entries(const PackedLayer& w, DType type) {
    return 1u << (type == DType::f16 && w.bits <= 3 ? 2 * w.bits : w.bits);
}
uint32_t table_copies(const PackedLayer& w, DType type) { return std::min(32u, 2048 / table_entries(w, type)); }

Precision precision_of(DType type) { return type == DType::bf16 ? Precision::bf16 : Precision::f16; }

std::string shader_of(DType type) { return fmt::format("packed_matmul_{}", name(type)); }

bool can(const Capabilities& device, const PackedLayer& w, DType type) {
    constexpr int64_t longest = int64_t(1) << 22;  // offsets within a tile have 32 bits
    return matrix_shape(device, precision_of(type)) && find_shader(shader_of(type)) && w.block_size % 32 == 0 && w.in < longest;
}

// x in the type of the products, and what y's rows are to be multiplied by.
struct Input {
    Tensor x, factors;
};

Input input(Graph& g, Tensor x, DType type, const std::string& label) {
    if (x.dtype() == type) return {x, {}};
    if (type == DType::bf16) return {x.dtype() == DType::f32 ? cast(g, x, type) : x, {}};
    Tensor scaled = g.tensor(x.shape(), DType::f16, label + ".x"), factors = g.tensor({x.rows()}, DType::f32, label + ".factors");
    const Capabilities& c = g.capabilities();
    uint32_t subgroups =
        c.quirks.barriers_are_slow ? 1 : std::max(1u, std::min(256u, c.max_workgroup_invocations) / c.subgroup_size);
    g.dispatch(Kernel{fmt::format("packed_matmul_input_{}", name(x.dtype())), {subgroups * c.subgroup_size, subgroups}},
               {in(x), out(scaled), out(factors)}, PackedMatmulInputArgs{.cols = uint32_t(x.cols())}, linear_grid(x.rows()),
               label + ".x");
    return {scaled, factors};
}

// Where unpacking a weight once, before a product, is faster than in each of its workgroups. On an H200 with 512 tokens rows of
// 4096 are faster directly (gate_up of 12B: 593 us against 638 to 681), longer ones unpacked (31B at 1 bit: 2,939 tokens/s
// against 2,559), and with 96 tokens rows of 4096 directly too (176 us against 242). From 1024 tokens on unpacking is expected to
// win: not measured.
constexpr int64_t few_tokens = 96, many_tokens = 1024, short_row = 4096;
// f16 weights are kept as larger numbers, whose neighbours lie closer; the factors of input() make up for it.
constexpr float weight_factor = 128;

// The tiles of a slice: at most half a GB of 16-bit weights, in slices of about the same size and whole 128 rows. (Slices that
// stay in a cache of 60 MB were slower: too few workgroups.)
int64_t slice_tiles(const PackedLayer& w, int64_t tiles, int64_t bytes) {
    const int64_t rows = (bytes ? bytes : int64_t(512) << 20) / (w.in * 2);
    const int64_t most = std::max<int64_t>(1, rows / 128) * 4, slices = (tiles + most - 1) / most;
    return ((tiles + slices - 1) / slices + 3) / 4 * 4;
}

void run_unpacked(Graph& g, const Input& x, const PackedLayer& w, Tensor residual, Tensor y, int64_t first_column, DType type,
                  const std::string& label, int64_t slice_bytes) {
    const int64_t tiles = packed_parts(w).tiles;
    const int64_t step = slice_tiles(w, tiles, slice_bytes);
    for (int64_t tile = 0; tile < tiles; tile += step) {
        const TileRange range = tile_range(w, tile, std::min(step, tiles - tile));
        Tensor weight = g.tensor({range.rows, w.in}, type, label + ".weight");
        dequantize_tiles(g, w, range, x.factors ? weight_factor : 1, weight, label + ".weight");
        matmul(g, Product::nt, x.x, weight, residual, y, label,
               {.variant = MatmulVariant::matrix_units,
                .precision = precision_of(type),
                .first_column = first_column + range.first_row,
                .factors = x.factors});
    }
}

}  // namespace

DType packed_matmul_type(const Capabilities& device) {
    return has_matrix_units(device, Precision::f16) && find_shader(shader_of(DType::f16)) ? DType::f16 : DType::bf16;
}

bool has_packed_matmul(const Capabilities& device, const PackedLayer& w) { return can(device, w, packed_matmul_type(device)); }

void packed_matmul_into(Graph& g, Tensor x, const PackedLayer& w, Tensor residual, Tensor y, int64_t first_column,
                        const std::string& label, const PackedMatmulOptions& options) {
    const Capabilities& device = g.capabilities();
    const DType type = options.type.value_or(packed_matmul_type(device));
    if (type != DType::f16 && type != DType::bf16) fail("{}: products in {}; possible are f16 and bf16", label, name(type));
    if (!can(device, w, type))
        fail("{}: {} has no matrix units for {}, or blocks of {} or rows of {} are not for them", label, device.name, name(type),
             w.block_size, w.in);
    check_packed(w, label);
    if (!is_float(x.dtype())) fail("{}: '{}' is {}, not a float type", label, x.name(), name(x.dtype()));
    const int64_t tokens = x.rows();
    expect(x, {tokens, w.in}, x.dtype(), label + ": x");
    if (g.requires_gradient(x)) fail("{}: a packed weight is for inference, but '{}' requires a gradient", label, x.name());
    if (y.dtype() != DType::f32 || y.rows() != tokens || first_column < 0 || first_column + w.out() > y.cols())
        fail("{}: {} columns from {} on do not fit into {} {}", label, w.out(), first_column, y.name(), y.shape().text());
    if (residual) expect(residual, y.shape(), DType::f32, label + ": residual");
    if (tokens == 0) return;

    const bool can_unpack = can_dequantize_tiles(device, w) && has_matrix_units(device, precision_of(type));
    const bool worth = tokens >= many_tokens || (tokens >= few_tokens && w.in > short_row);
    const bool automatic = can_unpack && !options.block && options.tile < 0 && worth;
    if (options.unpacked.value_or(automatic)) {
        if (!can_unpack) fail("{}: {} cannot unpack this weight", label, device.name);
        return run_unpacked(g, input(g, x, type, label), w, residual, y, first_column, type, label, options.slice_bytes);
    }
    const CooperativeMatrixShape& shape = *matrix_shape(device, precision_of(type));
    const uint32_t copies = table_copies(w, type);
    auto fits = [&](const MatrixBlock& b) {
        return b.k % 32 == 0 && 128 % b.k == 0 && b.n % 32 == 0 &&
               matrix_block_fits(b, shape, device, true, true, copies * table_entries(w, type) * 4);
    };
    const MatrixBlock* block = options.block ? (fits(*options.block) ? &*options.block : nullptr)
                                             : choose_matrix_block(blocks, tokens, w.out(), options.tile, label, fits);
    if (!block) fail("{}: the block that was asked for does not suit {}, or none of the table does", label, device.name);
    auto [a, factors] = input(g, x, type, label);
    bool whole_vectors =
        aligned(g, y, 16) && (!residual || aligned(g, residual, 16)) && y.cols() % 4 == 0 && first_column % 4 == 0;
    const PackedParts parts = packed_parts(w);
    int64_t columns = 0;
    bool whole = tokens % block->m == 0;
    for (size_t i = 0; i < w.rows.size(); i++) {
        columns += (w.rows[i] + block->n - 1) / block->n;
        whole = whole && w.rows[i] % block->n == 0;
        if (i + 1 < w.rows.size()) whole_vectors = whole_vectors && w.rows[i] % 4 == 0;
    }
    std::vector<uint32_t> constants = matrix_block_constants(*block, shape, device);
    constants.insert(constants.end(), {a.dtype() == DType::f32   ? 0u
                                       : a.dtype() == DType::f16 ? 1u
                                                                 : 2u,
                                       true, aligned(g, a, 16), whole_vectors, w.in % block->k == 0, whole_vectors && whole,
                                       bool(residual), bool(factors), uint32_t(w.bits), uint32_t(w.block_size / 32), copies});
    g.dispatch(Kernel{shader_of(type), constants},
               {in(a), in(factors), in(w.indices), in(w.scales), in(w.centroids), in(residual), out(y)},
               PackedMatmulArgs{.tokens = uint32_t(tokens),
                                .in_cols = uint32_t(w.in),
                                .y_cols = uint32_t(y.cols()),
                                .y_first = uint32_t(first_column),
                                .tiles_1 = parts.first_tile[1],
                                .tiles_2 = parts.first_tile[2],
                                .rows_0 = parts.rows[0],
                                .rows_1 = parts.rows[1],
                                .rows_2 = parts.rows[2]},
               linear_grid((tokens + block->m - 1) / block->m * columns), label,
               {.flops = 2.0 * double(tokens) * double(w.out()) * double(w.in)});
}

Tensor packed_matmul(Graph& g, Tensor x, const PackedLayer& w, Tensor residual, const std::string& label,
                     const PackedMatmulOptions& options) {
    Tensor y = g.tensor({x.rows(), w.out()}, DType::f32, label);
    packed_matmul_into(g, x, w, residual, y, 0, label, options);
    return y;
}

}  // namespace vkqat

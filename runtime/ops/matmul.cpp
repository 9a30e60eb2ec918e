#include "runtime/ops/matmul.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "runtime/ops/cast.h"
#include "runtime/ops/launch.h"
#include "runtime/vulkan/shader_table.h"
#include "shaders/args/matmul.h"

namespace vkqat {
namespace {

struct Extents {
    int64_t m, n, k;
};

Extents extents(Product product, Tensor a, Tensor b, const std::string& label) {
    Extents e{};
    int64_t other = 0;
    switch (product) {
        case Product::nt: e = {a.rows(), b.rows(), a.cols()}, other = b.cols(); break;
        case Product::nn: e = {a.rows(), b.cols(), a.cols()}, other = b.rows(); break;
        case Product::tn: e = {a.cols(), b.cols(), a.rows()}, other = b.rows(); break;
    }
    if (!is_float(a.dtype()) || !is_float(b.dtype()))
        fail("{}: {} is {} and {} is {}: expected f32, f16 or bf16", label, a.name(), name(a.dtype()), b.name(), name(b.dtype()));
    if (other != e.k)
        fail("{}: the inner sizes of {} {} and {} {} do not fit", label, a.name(), a.shape().text(), b.name(), b.shape().text());
    constexpr int64_t limit = int64_t(1) << 31;
    if (a.elements() >= limit * 2 || b.elements() >= limit * 2 || e.m >= limit || e.n >= limit)
        fail("{}: {} {} or {} {} is too large", label, a.name(), a.shape().text(), b.name(), b.shape().text());
    return e;
}

int64_t tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// A kernel for a product, and the part of c that a workgroup computes.
struct Choice {
    Kernel kernel;
    int64_t rows, columns;
    bool linear = false;  // grid
    int64_t k_part = 0;   // of k for a workgroup; 0: all of it
};

const char* order(Product product) { return product == Product::nt ? "nt" : product == Product::nn ? "nn" : "tn"; }

Choice portable(Product product, const Extents& e, DType b, const Capabilities& device) {
    int64_t lanes = device.subgroup_size;
    std::vector<uint32_t> constants{device.subgroup_size, device.uniform_loads()};
    std::string type(name(b));
    switch (product) {
        case Product::nt:
            return e.m == 1 ? Choice{{"matvec_" + type, constants}, 1, 8} : Choice{{"matmul_nt_" + type, constants}, 4, 8};
        case Product::nn: return {{"matmul_nn_" + type, constants}, 8, 2 * lanes};
        case Product::tn: return {{"matmul_tn_" + type, constants}, 8, 4 * lanes};
    }
    fail("matmul: no such product");
}

// The tiles in shared memory of a workgroup; a larger one reads memory less often, a smaller one occupies the device with
// smaller products.
struct Block {
    uint32_t m, n, k;
};
constexpr std::array<Block, 2> tiled_blocks{{{128, 128, 16}, {64, 64, 16}}};
constexpr int64_t enough_workgroups = 128;  // to occupy a large GPU

// Measured on an H200 (132 processors). Blocks for few rows leave workgroups to more processors.
constexpr std::array<MatrixBlock, 8> matrix_blocks{{{128, 128, 32, 2, 2, 1, true, 768},
                                                    {128, 128, 64, 2, 4, 1, true, 100},
                                                    {64, 64, 64, 2, 2, 1, true, 128},
                                                    {64, 32, 128, 2, 1, 4, true, 96},
                                                    {32, 32, 128, 2, 1, 4, true, 0},
                                                    {16, 32, 128, 1, 1, 4, true, 0},
                                                    {32, 32, 32, 2, 1, 2, true, 0},
                                                    {32, 32, 16, 2, 2, 1, true, 0}}};
constexpr uint32_t most_sums = 16;       // matrices of sums that a subgroup keeps in registers,
constexpr uint32_t most_elements = 128;  // and elements of them of an invocation

// Into how many parts k is cut, so that a small c with a long k occupies a large GPU.
int64_t parts_of(const Extents& e, int64_t rows, int64_t columns, int64_t depth) {
    constexpr int64_t workgroups = 264;  // two for each processor of an H200
    constexpr int64_t least_steps = 8;
    const int64_t c_tiles = tiles(e.m, rows) * tiles(e.n, columns);
    const int64_t parts = std::min(workgroups / c_tiles, e.k / (depth * least_steps));
    return parts >= 2 ? parts : 1;
}

// The part of k of a workgroup: whole steps.
int64_t k_part_of(const Extents& e, int64_t rows, int64_t columns, int64_t depth, const MatmulOptions& options) {
    const bool whole = options.factors || options.first_column;
    const bool forced = options.tile >= 0 || options.block;
    const int64_t parts = whole ? 1 : options.parts ? options.parts : forced ? 1 : parts_of(e, rows, columns, depth);
    return std::min(e.k, tiles(tiles(e.k, parts), depth) * depth);
}

// The largest of the blocks that leaves enough workgroups, else the smallest, of those for which `fits`; nullptr if there is
// none.
template <class Fits>
const Block* choose(const Extents& e, int tile, const std::string& label, Fits fits) {
    if (tile >= 0) {
        if (size_t(tile) >= tiled_blocks.size())
            fail("{}: there is no tile {}, only 0 to {}", label, tile, tiled_blocks.size() - 1);
        return fits(tiled_blocks[size_t(tile)]) ? &tiled_blocks[size_t(tile)] : nullptr;
    }
    const Block* chosen = nullptr;
    for (const Block& block : tiled_blocks) {
        if (!fits(block)) continue;
        chosen = &block;
        if (tiles(e.m, block.m) * tiles(e.n, block.n) >= enough_workgroups) break;
    }
    return chosen;
}

bool aligned_operand(const Graph& g, Tensor t) { return aligned(g, t, 16) && t.cols() % 8 == 0; }
bool aligned_result(const Graph& g, Tensor c, Tensor base, int64_t first_column = 0) {
    return aligned(g, c, 16) && (!base || aligned(g, base, 16)) && c.cols() % 4 == 0 && first_column % 4 == 0;
}

// Nothing where the device's limits allow no tile.
std::optional<Choice> tiled(const Graph& g, Product product, const Extents& e, Tensor a, Tensor b, Tensor base, Tensor c,
                            const std::string& label, const MatmulOptions& options) {
    const Capabilities& device = g.capabilities();
    const Block* block = choose(e, options.tile, label, [&](const Block& t) {
        uint32_t shared_bytes = t.k * (t.m + 4 + t.n + 4) * 4;
        return t.m / 8 * (t.n / 8) <= device.max_workgroup_invocations && shared_bytes <= device.shared_memory_bytes;
    });
    if (!block) return {};
    std::vector<uint32_t> constants{block->m / 8 * (block->n / 8), block->m, block->n, block->k};
    constants.insert(constants.end(),
                     {aligned_operand(g, a), aligned_operand(g, b), aligned_result(g, c, base), e.k % block->k == 0});
    return Choice{{fmt::format("tiled_{}_{}", order(product), name(b.dtype())), constants},
                  block->m,
                  block->n,
                  false,
                  k_part_of(e, block->m, block->n, block->k, options)};
}

uint32_t type_constant(DType type) { return type == DType::f32 ? 0 : type == DType::f16 ? 1 : 2; }

// Nothing where the device has no matrix units for the graph's precision, or the build no shader.
std::optional<Choice> on_matrix_units(const Graph& g, Product product, const Extents& e, Tensor a, Tensor b, Tensor base,
                                      Tensor c, const std::string& label, const MatmulOptions& options) {
    const Capabilities& device = g.capabilities();
    const CooperativeMatrixShape* shape = matrix_shape(device, options.precision.value_or(g.precision()));
    if (!shape) return {};
    std::string shader = fmt::format("coopmat_{}", name(shape->input));
    if (!find_shader(shader)) return {};
    // Offsets within a tile have 32 bits.
    constexpr int64_t longest = int64_t(1) << 22;
    if (a.cols() >= longest || b.cols() >= longest) return {};
    const bool a_by_k = product != Product::tn, b_by_k = product == Product::nt;
    // 16-bit operands along k are faster with deeper steps than the first block's; otherwise it is the fastest (16384 x 16384 x
    // 2048 on an H200: nt 239 against 242, nn 262 against 241, tn 293 against 240 TFLOP/s).
    const bool deep = product == Product::nt && a.dtype() != DType::f32 && b.dtype() != DType::f32;
    auto fits = [&](const MatrixBlock& t) {
        if (deep && options.tile < 0 && &t == &matrix_blocks[0]) return false;
        return matrix_block_fits(t, *shape, device, a_by_k, b_by_k, 0);
    };
    auto chosen = [&]() -> const MatrixBlock* {
        if (options.block) return fits(*options.block) ? &*options.block : nullptr;
        // A small c with a long k: large blocks, each with a part of k.
        const MatrixBlock& large = matrix_blocks[deep ? 1 : 0];
        if (options.tile < 0 && 2 * e.m > large.m && 2 * e.n > large.n && fits(large) &&
            k_part_of(e, large.m, large.n, large.k, options) < e.k)
            return &large;
        return choose_matrix_block(matrix_blocks, e.m, e.n, options.tile, label, fits);
    };
    const MatrixBlock* block = chosen();
    if (!block) return {};
    std::vector<uint32_t> constants = matrix_block_constants(*block, *shape, device);
    const int64_t k_part = k_part_of(e, block->m, block->n, block->k, options);
    const bool aligned = aligned_result(g, c, base, options.first_column.value_or(0));
    constants.insert(constants.end(), {type_constant(a.dtype()), a_by_k, aligned_operand(g, a), aligned, e.k % block->k == 0,
                                       aligned && e.m % block->m == 0 && e.n % block->n == 0, base && k_part == e.k,
                                       bool(options.factors), type_constant(b.dtype()), b_by_k, aligned_operand(g, b)});
    return Choice{{shader, constants}, block->m, block->n, true, k_part};
}

Choice choose(const Graph& g, Product product, const Extents& e, Tensor a, Tensor b, Tensor base, Tensor c,
              const std::string& label, const MatmulOptions& options) {
    const Capabilities& device = g.capabilities();
    auto needed = [&](std::optional<Choice> choice, const char* what) {
        if (!choice) fail("{}: {} cannot compute this product on {}", label, what, device.name);
        return *choice;
    };
    switch (options.variant) {
        case MatmulVariant::portable: return portable(product, e, b.dtype(), device);
        case MatmulVariant::tiled: return needed(tiled(g, product, e, a, b, base, c, label, options), "the tiled variant");
        case MatmulVariant::matrix_units:
            return needed(on_matrix_units(g, product, e, a, b, base, c, label, options), "matrix units");
        case MatmulVariant::automatic: break;
    }
    const CooperativeMatrixShape* shape = matrix_shape(device, options.precision.value_or(g.precision()));
    if (shape && e.m >= shape->m && e.n >= shape->n && e.k >= shape->k)
        if (auto choice = on_matrix_units(g, product, e, a, b, base, c, label, options)) return *choice;
    if (!device.quirks.barriers_are_slow && e.m >= 32 && e.n >= 32 && e.k >= 16)
        if (auto choice = tiled(g, product, e, a, b, base, c, label, options)) return *choice;
    return portable(product, e, b.dtype(), device);
}

// c = base + the sum of `parts` [count, c's shape].
void sum_parts(Graph& g, Tensor parts, Tensor base, Tensor c, const std::string& label) {
    const uint32_t count = count32(c.elements(), label + ": elements"), part_count = uint32_t(parts.elements() / c.elements());
    RowBlocks blocks = row_blocks(g.capabilities(), 1, count);
    g.dispatch(blocks.kernel("sum_parts"), {in(parts), in(base), out(c)}, SumPartsArgs{.count = count, .part_count = part_count},
               blocks.grid, label + ".sum", {.flops = double(parts.elements())});
}

}  // namespace

const CooperativeMatrixShape* matrix_shape(const Capabilities& device, Precision precision) {
    if (precision == Precision::f32) return nullptr;
    const CooperativeMatrixShape* shape =
        device.cooperative_matrix(precision == Precision::bf16 ? DType::bf16 : DType::f16, DType::f32);
    // Rows in shared memory are read in units of 8 elements.
    return shape && shape->m % 8 == 0 && shape->n % 8 == 0 && shape->k % 8 == 0 ? shape : nullptr;
}

bool has_matrix_units(const Capabilities& device, Precision precision) {
    const CooperativeMatrixShape* shape = matrix_shape(device, precision);
    return shape && find_shader(fmt::format("coopmat_{}", name(shape->input)));
}

std::vector<uint32_t> matrix_block_constants(const MatrixBlock& block, const CooperativeMatrixShape& shape,
                                             const Capabilities& device) {
    constexpr uint32_t walk = 8;
    return {block.groups_m * block.groups_n * block.groups_k * device.subgroup_size,
            block.m,
            block.n,
            block.k,
            block.groups_m,
            block.groups_n,
            block.groups_k,
            block.prefetch && device.kind != DeviceKind::cpu,  // a CPU has no registers for it, and takes long to compile it
            shape.m,
            shape.n,
            shape.k,
            walk};
}

const MatrixBlock* choose_matrix_block(std::span<const MatrixBlock> blocks, int64_t m, int64_t n, int tile,
                                       const std::string& label, const std::function<bool(const MatrixBlock&)>& fits) {
    if (tile >= 0) {
        if (size_t(tile) >= blocks.size()) fail("{}: there is no tile {}, only 0 to {}", label, tile, blocks.size() - 1);
        return fits(blocks[size_t(tile)]) ? &blocks[size_t(tile)] : nullptr;
    }
    const MatrixBlock* chosen = nullptr;
    for (const MatrixBlock& block : blocks) {
        if (!fits(block)) continue;
        // At most half of a block's rows empty, if there is a choice.
        const bool empty = m * 2 <= block.m;
        if (chosen && empty && chosen->m <= block.m) continue;
        chosen = &block;
        if (!empty && tiles(m, block.m) * tiles(n, block.n) >= block.enough) break;
    }
    return chosen;
}

bool matrix_block_fits(const MatrixBlock& block, const CooperativeMatrixShape& shape, const Capabilities& device, bool a_by_k,
                       bool b_by_k, uint32_t other_bytes) {
    const uint32_t across_m = block.groups_m * shape.m, across_n = block.groups_n * shape.n, across_k = block.groups_k * shape.k;
    if (block.m % across_m != 0 || block.n % across_n != 0 || block.k % across_k != 0) return false;
    const uint32_t sums = block.m / across_m * (block.n / across_n), groups = block.groups_m * block.groups_n * block.groups_k;
    auto tile_bytes = [&](uint32_t outer, bool by_k) { return by_k ? outer * (block.k + 8) * 2 : block.k * (outer + 8) * 2; };
    const uint32_t end_bytes = std::max(groups * shape.m * shape.n * 4, block.m * shape.n * 4);
    // CPU drivers write every element's arithmetic out and take long to compile large blocks.
    if (device.kind == DeviceKind::cpu && sums * (block.k / across_k) > 16) return false;
    return sums <= most_sums && sums * shape.m * shape.n <= most_elements * device.subgroup_size &&
           groups * device.subgroup_size <= device.max_workgroup_invocations &&
           std::max(tile_bytes(block.m, a_by_k) + tile_bytes(block.n, b_by_k), end_bytes) + other_bytes <=
               device.shared_memory_bytes;
}

void matmul(Graph& g, Product product, Tensor a, Tensor b, Tensor base, Tensor c, const std::string& label,
            const MatmulOptions& options) {
    Extents e = extents(product, a, b, label);
    const int64_t first_column = options.first_column.value_or(0);
    if (options.first_column) {
        if (c.dtype() != DType::f32 || c.rows() != e.m || first_column < 0 || first_column + e.n > c.cols())
            fail("{}: {} columns from {} on do not fit into {} {}", label, e.n, first_column, c.name(), c.shape().text());
    } else {
        expect(c, {e.m, e.n}, DType::f32, label);
    }
    if (base) expect(base, c.shape(), DType::f32, label + ": base");
    if (options.factors) expect(options.factors, {e.m}, DType::f32, label + ": factors");
    if ((options.first_column || options.factors) && options.variant != MatmulVariant::matrix_units)
        fail("{}: only matrix units compute a part of c or multiply its rows", label);
    Choice choice = choose(g, product, e, a, b, base, c, label, options);
    if (!choice.linear) {  // in fp32, which takes only weights in other types
        Tensor a32 = cast(g, a, DType::f32), b32 = product == Product::tn ? cast(g, b, DType::f32) : b;
        if (a32 != a || b32 != b) return matmul(g, product, a32, b32, base, c, label, options);
    }
    const int64_t k_part = choice.k_part ? choice.k_part : e.k, parts = tiles(e.k, k_part);
    Tensor result = parts > 1 ? g.tensor({parts, e.m, e.n}, DType::f32, label + ".parts") : c;
    Grid grid{uint32_t(tiles(e.n, choice.columns)), uint32_t(tiles(e.m, choice.rows)), uint32_t(parts)};
    if (choice.linear)
        grid = linear_grid(tiles(e.n, choice.columns) * tiles(e.m, choice.rows) * parts);
    else if (grid.x > 65535 || grid.y > 65535)
        fail("{}: {} x {} tiles exceed the grid", label, grid.x, grid.y);
    g.dispatch(choice.kernel, {in(a), in(b), in(parts > 1 ? Tensor() : base), out(result), in(options.factors)},
               MatmulArgs{.m = uint32_t(e.m),
                          .n = uint32_t(e.n),
                          .k = uint32_t(e.k),
                          .k_part = uint32_t(k_part),
                          .c_cols = uint32_t(c.cols()),
                          .c_first = uint32_t(first_column)},
               grid, label, {.flops = 2.0 * double(e.m) * double(e.n) * double(e.k)});
    if (parts > 1) sum_parts(g, result, base, c, label);
}

DType product_type(const Graph& g) {
    const CooperativeMatrixShape* shape = matrix_shape(g.capabilities(), g.precision());
    return shape && has_matrix_units(g.capabilities(), g.precision()) ? shape->input : DType::f32;
}

Tensor linear(Graph& g, Tensor x, Tensor weight, const std::string& name, Tensor residual) {
    Tensor y = g.tensor({x.rows(), weight.rows()}, DType::f32, name);
    matmul(g, Product::nt, x, weight, residual, y, name);
    const DType type = product_type(g);
    g.on_backward(y, {x, weight, residual}, [=](Graph& graph, Tensor dy) {
        if (residual) graph.pass_gradient(residual, dy);
        Tensor rounded = dy.dtype() == DType::f32 ? cast(graph, dy, type) : dy;
        if (graph.requires_gradient(x)) {
            GradientSlot dx = graph.gradient_slot(x);
            matmul(graph, Product::nn, rounded, weight, dx.base, dx.out, name + ".dx");
        }
        if (graph.requires_gradient(weight)) {
            GradientSlot dw = graph.gradient_slot(weight);
            matmul(graph, Product::tn, rounded, x, dw.base, dw.out, name + ".dw");
        }
    });
    if (!residual) g.set_gradient_type(y, type);
    return y;
}

}  // namespace vkqat

#include "runtime/ops/matmul.h"

#include <array>
#include <optional>
#include <string>
#include <vector>

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
        case Product::nt:
            e = {a.rows(), b.rows(), a.cols()}, other = b.cols();
            break;
        case Product::nn:
            e = {a.rows(), b.cols(), a.cols()}, other = b.rows();
            break;
        case Product::tn:
            e = {a.cols(), b.cols(), a.rows()}, other = b.rows();
            break;
    }
    if (a.dtype() != DType::f32 || (product == Product::tn && b.dtype() != DType::f32))
        fail("{}: {} is {} and {} is {}: only weights may be other than f32", label, a.name(), name(a.dtype()), b.name(),
             name(b.dtype()));
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
};

const char* order(Product product) { return product == Product::nt ? "nt" : product == Product::nn ? "nn" : "tn"; }

Choice portable(Product product, const Extents& e, DType b, const Capabilities& device) {
    int64_t lanes = device.subgroup_size;
    std::vector<uint32_t> constants{device.subgroup_size, device.uniform_loads()};
    std::string type(name(b));
    switch (product) {
        case Product::nt:
            return e.m == 1 ? Choice{{"matvec_" + type, constants}, 1, 8} : Choice{{"matmul_nt_" + type, constants}, 4, 8};
        case Product::nn:
            return {{"matmul_nn_" + type, constants}, 8, 2 * lanes};
        case Product::tn:
            return {{"matmul_tn_" + type, constants}, 8, 4 * lanes};
    }
    fail("matmul: no such product");
}

// The tiles in shared memory of a workgroup; a larger one reads memory less often, a smaller one occupies the device with
// smaller products.
struct Block {
    uint32_t m, n, k;
    uint32_t groups_m, groups_n;  // matrix units: subgroups along m and n
};
constexpr std::array<Block, 2> tiled_blocks{{{128, 128, 16, 0, 0}, {64, 64, 16, 0, 0}}};
constexpr std::array<Block, 3> matrix_blocks{{{128, 128, 32, 2, 4}, {64, 64, 32, 2, 2}, {32, 32, 16, 2, 2}}};
constexpr uint32_t most_sums = 8;           // matrices of sums that a subgroup keeps in registers
constexpr int64_t enough_workgroups = 128;  // to occupy a large GPU

// The largest of the blocks that leaves enough workgroups, else the smallest, of those for which `fits`; nullptr if there is
// none.
template <size_t count, class Fits>
const Block* choose(const std::array<Block, count>& blocks, const Extents& e, int tile, const std::string& label, Fits fits) {
    if (tile >= 0) {
        if (size_t(tile) >= count) fail("{}: there is no tile {}, only 0 to {}", label, tile, count - 1);
        return fits(blocks[size_t(tile)]) ? &blocks[size_t(tile)] : nullptr;
    }
    const Block* chosen = nullptr;
    for (const Block& block : blocks) {
        if (!fits(block)) continue;
        chosen = &block;
        if (tiles(e.m, block.m) * tiles(e.n, block.n) >= enough_workgroups) break;
    }
    return chosen;
}

// Specialization constants 4 to 7 of shaders/ops/matmul_tiles.glsl.
void append_alignment(const Graph& g, Tensor a, Tensor b, Tensor base, Tensor c, const Extents& e, const Block& block,
                      std::vector<uint32_t>& constants) {
    auto at_16 = [&](Tensor t) {  // memory that the plan assigns starts at multiples of 16 bytes
        const Graph::TensorInfo& info = g.info(t);
        return (g.storages()[info.storage].address + info.offset) % 16 == 0;
    };
    constants.push_back(at_16(a) && a.cols() % 8 == 0);
    constants.push_back(at_16(b) && b.cols() % 8 == 0);
    constants.push_back(at_16(c) && (!base || at_16(base)) && e.n % 4 == 0);
    constants.push_back(e.k % block.k == 0);
}

// Nothing where the device's limits allow no tile.
std::optional<Choice> tiled(const Graph& g, Product product, const Extents& e, Tensor a, Tensor b, Tensor base, Tensor c,
                            const std::string& label, const MatmulOptions& options) {
    const Capabilities& device = g.capabilities();
    const Block* block = choose(tiled_blocks, e, options.tile, label, [&](const Block& t) {
        uint32_t shared_bytes = t.k * (t.m + 4 + t.n + 4) * 4;
        return t.m / 8 * (t.n / 8) <= device.max_workgroup_invocations && shared_bytes <= device.shared_memory_bytes;
    });
    if (!block) return {};
    std::vector<uint32_t> constants{block->m / 8 * (block->n / 8), block->m, block->n, block->k};
    append_alignment(g, a, b, base, c, e, *block, constants);
    return Choice{{fmt::format("tiled_{}_{}", order(product), name(b.dtype())), constants}, block->m, block->n};
}

const CooperativeMatrixShape* matrix_shape(const Capabilities& device, Precision precision) {
    if (precision == Precision::f32) return nullptr;
    const CooperativeMatrixShape* shape =
        device.cooperative_matrix(precision == Precision::bf16 ? DType::bf16 : DType::f16, DType::f32);
    // Rows in shared memory are read in units of 8 elements.
    return shape && shape->m % 8 == 0 && shape->n % 8 == 0 && shape->k % 8 == 0 ? shape : nullptr;
}

// Nothing where the device has no matrix units for the graph's precision, or the build no shader.
std::optional<Choice> on_matrix_units(const Graph& g, Product product, const Extents& e, Tensor a, Tensor b, Tensor base,
                                      Tensor c, const std::string& label, const MatmulOptions& options) {
    const Capabilities& device = g.capabilities();
    const CooperativeMatrixShape* shape = matrix_shape(device, g.precision());
    if (!shape) return {};
    std::string shader = fmt::format("coopmat_{}_{}_{}", order(product), name(b.dtype()), name(shape->input));
    if (!find_shader(shader)) return {};
    const Block* block = choose(matrix_blocks, e, options.tile, label, [&](const Block& t) {
        auto stage_bytes = [&](uint32_t outer, bool by_k) { return by_k ? outer * (t.k + 8) * 2 : t.k * (outer + 8) * 2; };
        uint32_t edge_bytes = t.groups_m * t.groups_n * shape->m * shape->n * 4;
        uint32_t sums = t.m / (t.groups_m * shape->m) * (t.n / (t.groups_n * shape->n));
        return sums <= most_sums && t.m % (t.groups_m * shape->m) == 0 && t.n % (t.groups_n * shape->n) == 0 &&
               t.k % shape->k == 0 && t.groups_m * t.groups_n * device.subgroup_size <= device.max_workgroup_invocations &&
               stage_bytes(t.m, options.tile_a_by_k) + stage_bytes(t.n, options.tile_b_by_k) + edge_bytes <=
                   device.shared_memory_bytes;
    });
    if (!block) return {};
    std::vector<uint32_t> constants{block->groups_m * block->groups_n * device.subgroup_size, block->m, block->n, block->k};
    append_alignment(g, a, b, base, c, e, *block, constants);
    constants.insert(constants.end(),
                     {shape->m, shape->n, shape->k, block->groups_m, block->groups_n, options.tile_a_by_k, options.tile_b_by_k});
    return Choice{{shader, constants}, block->m, block->n};
}

Choice choose(const Graph& g, Product product, const Extents& e, Tensor a, Tensor b, Tensor base, Tensor c,
              const std::string& label, const MatmulOptions& options) {
    const Capabilities& device = g.capabilities();
    auto needed = [&](std::optional<Choice> choice, const char* what) {
        if (!choice) fail("{}: {} cannot compute this product on {}", label, what, device.name);
        return *choice;
    };
    switch (options.variant) {
        case MatmulVariant::portable:
            return portable(product, e, b.dtype(), device);
        case MatmulVariant::tiled:
            return needed(tiled(g, product, e, a, b, base, c, label, options), "the tiled variant");
        case MatmulVariant::matrix_units:
            return needed(on_matrix_units(g, product, e, a, b, base, c, label, options), "matrix units");
        case MatmulVariant::automatic:
            break;
    }
    const CooperativeMatrixShape* shape = matrix_shape(device, g.precision());
    if (shape && e.m >= shape->m && e.n >= shape->n && e.k >= shape->k)
        if (auto choice = on_matrix_units(g, product, e, a, b, base, c, label, options)) return *choice;
    if (!device.quirks.barriers_are_slow && e.m >= 32 && e.n >= 32 && e.k >= 16)
        if (auto choice = tiled(g, product, e, a, b, base, c, label, options)) return *choice;
    return portable(product, e, b.dtype(), device);
}

}  // namespace

bool has_matrix_units(const Capabilities& device, Precision precision) {
    const CooperativeMatrixShape* shape = matrix_shape(device, precision);
    return shape && find_shader(fmt::format("coopmat_nt_f32_{}", name(shape->input)));
}

void matmul(Graph& g, Product product, Tensor a, Tensor b, Tensor base, Tensor c, const std::string& label,
            const MatmulOptions& options) {
    Extents e = extents(product, a, b, label);
    expect(c, {e.m, e.n}, DType::f32, label);
    if (base) expect(base, {e.m, e.n}, DType::f32, label + ": base");
    Choice choice = choose(g, product, e, a, b, base, c, label, options);
    Grid grid{uint32_t(tiles(e.n, choice.columns)), uint32_t(tiles(e.m, choice.rows)), 1};
    if (grid.x > 65535 || grid.y > 65535) fail("{}: {} x {} tiles exceed the grid", label, grid.x, grid.y);
    g.dispatch(choice.kernel, {in(a), in(b), in(base), out(c)},
               MatmulArgs{.m = uint32_t(e.m), .n = uint32_t(e.n), .k = uint32_t(e.k)}, grid, label,
               {.flops = 2.0 * double(e.m) * double(e.n) * double(e.k)});
}

Tensor linear(Graph& g, Tensor x, Tensor weight, const std::string& name) {
    Tensor y = g.tensor({x.rows(), weight.rows()}, DType::f32, name);
    matmul(g, Product::nt, x, weight, {}, y, name);
    g.on_backward(y, {x, weight}, [=](Graph& graph, Tensor dy) {
        if (graph.requires_gradient(x)) {
            GradientSlot dx = graph.gradient_slot(x);
            matmul(graph, Product::nn, dy, weight, dx.base, dx.out, name + ".dx");
        }
        if (graph.requires_gradient(weight)) {
            GradientSlot dw = graph.gradient_slot(weight);
            matmul(graph, Product::tn, dy, x, dw.base, dw.out, name + ".dw");
        }
    });
    return y;
}

}  // namespace vkqat

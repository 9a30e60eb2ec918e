// Matrix products of linear layers. Weights are [out, in]: y = x W^T.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/graph/graph.h"

namespace vkqat {

// y [tokens, out] f32 = residual + x [tokens, in] * weight^T; x and weight [out, in] f32|f16|bf16, residual f32 or absent.
// Differentiable in all three. On matrix units dL/dy is rounded to product_type() before the products, once for both.
Tensor linear(Graph& g, Tensor x, Tensor weight, const std::string& name, Tensor residual = {});

// The type to which products round their operands: that of the graph's precision on matrix units, else f32. What only products
// read may be kept in it.
DType product_type(const Graph& g);

// The three products that training needs, c = base + a * b, base absent or of c's shape (it may be c). a, b f32|f16|bf16, c f32.
enum class Product {
    nt,  // c [m, n] = a [m, k] b^T, b [n, k]    forward
    nn,  // c [m, n] = a [m, k] b,   b [k, n]    gradient of the input
    tn,  // c [m, n] = a^T b,        a [k, m], b [k, n]   gradient of the weight
};

// How a product is computed. All sum in fp32, in an order that depends on nothing but the shapes and the device.
enum class MatmulVariant {
    automatic,     // matrix units where the graph's precision allows and the device has them, else tiled or portable
    portable,      // fp32, a subgroup for each small tile: no shared memory, no barriers
    tiled,         // fp32, tiles in shared memory: large products on GPUs
    matrix_units,  // f16 or bf16, the graph's precision: operands rounded to it (f16: infinite beyond 65504)
};

// The part of c that a workgroup on matrix units computes, and how its subgroups share it.
struct MatrixBlock {
    uint32_t m, n, k;                       // the block, and the depth of a step
    uint32_t groups_m, groups_n, groups_k;  // subgroups along each
    bool prefetch;                          // the next step is fetched while the present one is multiplied
    uint32_t enough;                        // workgroups from which on the block is worth its size
};
// What tests and measurements force; a variant that the device, the build or the graph's precision does not allow is an Error.
struct MatmulOptions {
    MatmulVariant variant = MatmulVariant::automatic;
    int tile = -1;  // the workgroup's tile: a row of the variant's table (0: the largest); -1: chosen by the product's size
    std::optional<MatrixBlock> block = {};  // matrix units: instead of one of the table
    int parts = 0;                          // into which k is cut, their sums added in the end; 0: chosen by the product's size
    // What a layer says that computes its product in pieces; only on matrix units.
    std::optional<Precision> precision = {};   // instead of the graph's
    std::optional<int64_t> first_column = {};  // base and c are [m, any]; the product takes n columns of them from here on
    Tensor factors = {};                       // f32 [m]: rows of a b are multiplied by them
};
void matmul(Graph& g, Product product, Tensor a, Tensor b, Tensor base, Tensor c, const std::string& label,
            const MatmulOptions& options = {});

// The first constants, up to WALK, of shaders/ops/matmul_units.glsl. Behind them come A_TYPE to SCALED.
std::vector<uint32_t> matrix_block_constants(const MatrixBlock& block, const CooperativeMatrixShape& shape,
                                             const Capabilities& device);
// Whether a block suits a device's limits; `other_bytes` of shared memory are needed beside the tiles.
bool matrix_block_fits(const MatrixBlock& block, const CooperativeMatrixShape& shape, const Capabilities& device, bool a_by_k,
                       bool b_by_k, uint32_t other_bytes);
// The first block that fits, is not half empty and leaves enough workgroups for c [m, n], else the last that fits; nullptr if
// none fits. `tile` >= 0: that one.
const MatrixBlock* choose_matrix_block(std::span<const MatrixBlock> blocks, int64_t m, int64_t n, int tile,
                                       const std::string& label, const std::function<bool(const MatrixBlock&)>& fits);
// The shape of matrices for products of this precision, or nullptr.
const CooperativeMatrixShape* matrix_shape(const Capabilities& device, Precision precision);

// Whether products of this precision run on matrix units on this device; otherwise they are computed in fp32.
bool has_matrix_units(const Capabilities& device, Precision precision);

}  // namespace vkqat

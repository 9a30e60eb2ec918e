#include "runtime/ops/matmul.h"

#include <string>

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
    if (other != e.k)
        fail("{}: the inner sizes of {} {} and {} {} do not fit", label, a.name(), a.shape().text(), b.name(), b.shape().text());
    constexpr int64_t limit = int64_t(1) << 31;
    if (a.elements() >= limit * 2 || b.elements() >= limit * 2 || e.m >= limit || e.n >= limit)
        fail("{}: {} {} or {} {} is too large", label, a.name(), a.shape().text(), b.name(), b.shape().text());
    return e;
}

// The portable variants: a tile of rows x columns for each subgroup.
struct Tile {
    std::string shader;
    int64_t rows, columns;
};

Tile portable_tile(Product product, const Extents& e, DType b, int64_t lanes) {
    std::string type(name(b));
    switch (product) {
        case Product::nt: return e.m == 1 ? Tile{"matvec_" + type, 1, 8} : Tile{"matmul_nt_" + type, 4, 8};
        case Product::nn: return {"matmul_nn_" + type, 8, 2 * lanes};
        case Product::tn: return {"matmul_tn_" + type, 8, 4 * lanes};
    }
    fail("matmul: no such product");
}

}  // namespace

void matmul(Graph& g, Product product, Tensor a, Tensor b, Tensor base, Tensor c, const std::string& label) {
    Extents e = extents(product, a, b, label);
    const Capabilities& device = g.capabilities();
    expect(c, {e.m, e.n}, DType::f32, label);
    if (base) expect(base, {e.m, e.n}, DType::f32, label + ": base");
    Tile tile = portable_tile(product, e, b.dtype(), device.subgroup_size);
    Grid grid{uint32_t((e.n + tile.columns - 1) / tile.columns), uint32_t((e.m + tile.rows - 1) / tile.rows), 1};
    if (grid.x > 65535 || grid.y > 65535) fail("{}: {} x {} tiles exceed the grid", label, grid.x, grid.y);
    g.dispatch(Kernel{tile.shader, {device.subgroup_size, device.uniform_loads()}}, {in(a), in(b), in(base), out(c)},
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

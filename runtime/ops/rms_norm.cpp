#include "runtime/ops/rms_norm.h"

#include <cmath>

#include "runtime/ops/launch.h"
#include "shaders/args/rms_norm.h"

namespace vkqat {
namespace {

void backward_x(Graph& g, Tensor dy, Tensor x, Tensor weight, Tensor inv_rms) {
    auto rows = uint32_t(x.rows()), dim = uint32_t(x.cols());
    GradientSlot s = g.gradient_slot(x);
    g.dispatch(row_kernel(g.capabilities(), typed_shader("rms_norm_backward", weight, "rms_norm: weight"), dim),
               {in(dy), in(x), in(weight), in(inv_rms), in(s.base), out(s.out)}, RmsNormBackwardArgs{.rows = rows, .dim = dim},
               linear_grid(rows), "rms_norm", {.flops = 8.0 * rows * dim});
}

// In two stages: an invocation sums a column over a chunk of rows, then one sums the chunks. At most 256 chunks, so that the
// second stage stays short however many tokens there are.
void backward_weight(Graph& g, Tensor dy, Tensor x, Tensor weight, Tensor inv_rms) {
    auto rows = uint32_t(x.rows()), dim = uint32_t(x.cols());
    uint32_t chunk_rows = std::max(32u, (rows + 255) / 256), chunks = (rows + chunk_rows - 1) / chunk_rows;
    constexpr uint32_t width = 64;
    uint32_t blocks = (dim + width - 1) / width;
    Tensor partial = g.tensor({chunks, dim}, DType::f32, "rms_norm.partial");
    g.dispatch(Kernel{"rms_norm_weight_partial", {width, g.capabilities().uniform_loads() && dim % 8 == 0}},
               {in(dy), in(x), in(inv_rms), out(partial)}, RmsNormPartialArgs{.rows = rows, .dim = dim, .chunk_rows = chunk_rows},
               linear_grid(int64_t(chunks) * blocks), "rms_norm.weight_partial", {.flops = 3.0 * rows * dim});
    GradientSlot s = g.gradient_slot(weight);
    g.dispatch(Kernel{"rms_norm_weight", {width}}, {in(partial), in(s.base), out(s.out)},
               RmsNormWeightArgs{.chunks = chunks, .dim = dim}, linear_grid(blocks), "rms_norm.weight",
               {.flops = double(chunks) * dim});
}

}  // namespace

Tensor rms_norm(Graph& g, Tensor x, Tensor weight, float eps, DType type) {
    if (!x) fail("rms_norm: x is absent");
    expect(x, {x.rows(), x.cols()}, DType::f32, "rms_norm: x");
    std::string shader = typed_shader("rms_norm", weight, "rms_norm: weight");
    expect(weight, {x.cols()}, weight.dtype(), "rms_norm: weight");
    if (!(eps >= 0) || !std::isfinite(eps)) fail("rms_norm: eps is {}, expected a small positive number", eps);
    uint32_t rows = count32(x.rows(), "rms_norm: rows of x"), dim = count32(x.cols(), "rms_norm: columns of x");
    if (type != DType::f32) {
        if (!is_float(type) || weight.dtype() != DType::f32)
            fail("rms_norm: y in {} with a weight in {}: only an f32 weight goes with a result in f16 or bf16", name(type),
                 name(weight.dtype()));
        shader += fmt::format("_to_{}", name(type));
    }
    Tensor y = g.tensor(x.shape(), type, "rms_norm"), inv_rms;
    if (g.requires_gradient(x) || g.requires_gradient(weight)) inv_rms = g.tensor({rows}, DType::f32, "inv_rms");
    g.dispatch(row_kernel(g.capabilities(), shader, dim), {in(x), in(weight), out(y), out(inv_rms)},
               RmsNormArgs{.rows = rows, .dim = dim, .eps = eps}, linear_grid(rows), "rms_norm", {.flops = 4.0 * rows * dim});
    g.on_backward(y, {x, weight}, [=](Graph& graph, Tensor dy) {
        if (graph.requires_gradient(weight)) backward_weight(graph, dy, x, weight, inv_rms);
        if (graph.requires_gradient(x)) backward_x(graph, dy, x, weight, inv_rms);
    });
    return y;
}

}  // namespace vkqat

#include "runtime/ops/quantize_activations.h"

#include "runtime/ops/launch.h"
#include "shaders/args/quantize_activations.h"

namespace vkqat {

Tensor quantize_activations(Graph& g, Tensor x, Tensor strength) {
    if (!x) fail("quantize_activations: x is absent");
    expect(x, {x.rows(), x.cols()}, DType::f32, "quantize_activations: x");
    if (strength) expect(strength, {1}, DType::f32, "quantize_activations: strength");
    const uint32_t rows = count32(x.rows(), "quantize_activations: rows of x");
    const uint32_t dim = count32(x.cols(), "quantize_activations: columns of x");
    Tensor y = g.like(x, "quantized activations");
    g.dispatch(row_kernel(g.capabilities(), "quantize_activations", dim), {in(x), out(y), in(strength)},
               QuantizeActivationsArgs{.rows = rows, .dim = dim}, linear_grid(rows), "quantize_activations",
               {.flops = 5.0 * rows * dim});
    g.on_backward(y, {x}, [=](Graph& graph, Tensor dy) { graph.pass_gradient(x, dy); });
    return y;
}

}  // namespace vkqat

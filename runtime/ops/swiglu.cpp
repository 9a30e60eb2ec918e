#include "runtime/ops/swiglu.h"

#include "runtime/ops/launch.h"
#include "shaders/args/swiglu.h"

namespace vkqat {
namespace {

// gate and up are one tensor in the fused form: rows of `stride` elements, up's part `up_offset` elements on.
struct Layout {
    uint32_t rows, cols, stride, up_offset;
    double elements() const { return double(rows) * cols; }
};

Tensor forward(Graph& g, Tensor gate, Tensor up, const Layout& l) {
    Tensor y = g.tensor({l.rows, l.cols}, DType::f32, "swiglu");
    RowBlocks blocks = row_blocks(g.capabilities(), l.rows, l.cols);
    g.dispatch(blocks.kernel("swiglu"), {in(gate), in(up), out(y)},
               SwigluArgs{.rows = l.rows, .cols = l.cols, .stride = l.stride, .up_offset = l.up_offset}, blocks.grid, "swiglu",
               {.flops = 5 * l.elements(), .bytes = 12 * l.elements()});
    return y;
}

void backward(Graph& g, Tensor gate, Tensor up, Tensor dy, GradientSlot dgate, GradientSlot dup, const Layout& l) {
    int touched = 3 + bool(dgate.out) + bool(dgate.base) + bool(dup.out) + bool(dup.base);
    RowBlocks blocks = row_blocks(g.capabilities(), l.rows, l.cols);
    g.dispatch(blocks.kernel("swiglu_backward"),
               {in(gate), in(up), in(dy), in(dgate.base), out(dgate.out), in(dup.base), out(dup.out)},
               SwigluBackwardArgs{.rows = l.rows, .cols = l.cols, .stride = l.stride, .up_offset = l.up_offset}, blocks.grid,
               "swiglu", {.flops = 12 * l.elements(), .bytes = 4 * touched * l.elements()});
}

}  // namespace

Tensor swiglu(Graph& g, Tensor gate, Tensor up) {
    if (!gate) fail("swiglu: gate is absent");
    expect(gate, {gate.rows(), gate.cols()}, DType::f32, "swiglu: gate");
    expect(up, gate.shape(), DType::f32, "swiglu: up");
    if (gate == up) fail("swiglu: gate and up are the same tensor '{}'", gate.name());
    uint32_t cols = count32(gate.cols(), "swiglu: columns of gate");
    Layout l{count32(gate.rows(), "swiglu: rows of gate"), cols, cols, 0};
    Tensor y = forward(g, gate, up, l);
    g.on_backward(y, {gate, up}, [=](Graph& graph, Tensor dy) {
        GradientSlot dgate = graph.requires_gradient(gate) ? graph.gradient_slot(gate) : GradientSlot();
        GradientSlot dup = graph.requires_gradient(up) ? graph.gradient_slot(up) : GradientSlot();
        backward(graph, gate, up, dy, dgate, dup, l);
    });
    return y;
}

Tensor swiglu(Graph& g, Tensor gate_up) {
    if (!gate_up) fail("swiglu: gate_up is absent");
    expect(gate_up, {gate_up.rows(), gate_up.cols()}, DType::f32, "swiglu: gate_up");
    uint32_t stride = count32(gate_up.cols(), "swiglu: columns of gate_up");
    if (stride % 2) fail("swiglu: gate_up '{}' has {} columns, expected an even number", gate_up.name(), stride);
    Layout l{count32(gate_up.rows(), "swiglu: rows of gate_up"), stride / 2, stride, stride / 2};
    Tensor y = forward(g, gate_up, gate_up, l);
    g.on_backward(y, {gate_up}, [=](Graph& graph, Tensor dy) {
        GradientSlot slot = graph.gradient_slot(gate_up);
        backward(graph, gate_up, gate_up, dy, slot, slot, l);
    });
    return y;
}

}  // namespace vkqat

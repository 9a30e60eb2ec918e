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

// `saved`: a copy of gate and up in y's type, from which y is then computed, or absent.
void forward(Graph& g, Tensor gate, Tensor up, Tensor saved, Tensor y, const Layout& l) {
    RowBlocks blocks = row_blocks(g.capabilities(), l.rows, l.cols);
    const double each = double(2 * bytes(gate.dtype()) + bytes(y.dtype()) * (saved ? 3 : 1));
    std::string shader = fmt::format("swiglu_{}_to_{}", name(gate.dtype()), name(y.dtype()));
    g.dispatch(blocks.kernel(shader), {in(gate), in(up), out(y), out(saved)},
               SwigluArgs{.rows = l.rows, .cols = l.cols, .stride = l.stride, .up_offset = l.up_offset}, blocks.grid, "swiglu",
               {.flops = 5 * l.elements(), .bytes = each * l.elements()});
}

void backward(Graph& g, Tensor gate, Tensor up, Tensor dy, GradientSlot dgate, GradientSlot dup, const Layout& l) {
    const double of_input = double(bytes(gate.dtype())) * 2 + 4;
    const DType gradient = dgate.out ? dgate.out.dtype() : DType::f32;
    const double written = double(bytes(gradient)) * (bool(dgate.out) + bool(dup.out)) + 4 * (bool(dgate.base) + bool(dup.base));
    std::string shader = fmt::format("swiglu_backward_{}_to_{}", name(gate.dtype()), name(gradient));
    RowBlocks blocks = row_blocks(g.capabilities(), l.rows, l.cols);
    g.dispatch(blocks.kernel(shader), {in(gate), in(up), in(dy), in(dgate.base), out(dgate.out), in(dup.base), out(dup.out)},
               SwigluBackwardArgs{.rows = l.rows, .cols = l.cols, .stride = l.stride, .up_offset = l.up_offset}, blocks.grid,
               "swiglu", {.flops = 12 * l.elements(), .bytes = (of_input + written) * l.elements()});
}

}  // namespace

Tensor swiglu(Graph& g, Tensor gate, Tensor up) {
    if (!gate) fail("swiglu: gate is absent");
    expect(gate, {gate.rows(), gate.cols()}, DType::f32, "swiglu: gate");
    expect(up, gate.shape(), DType::f32, "swiglu: up");
    if (gate == up) fail("swiglu: gate and up are the same tensor '{}'", gate.name());
    uint32_t cols = count32(gate.cols(), "swiglu: columns of gate");
    Layout l{count32(gate.rows(), "swiglu: rows of gate"), cols, cols, 0};
    Tensor y = g.like(gate, "swiglu");
    forward(g, gate, up, {}, y, l);
    g.on_backward(y, {gate, up}, [=](Graph& graph, Tensor dy) {
        GradientSlot dgate = graph.requires_gradient(gate) ? graph.gradient_slot(gate) : GradientSlot();
        GradientSlot dup = graph.requires_gradient(up) ? graph.gradient_slot(up) : GradientSlot();
        backward(graph, gate, up, dy, dgate, dup, l);
    });
    return y;
}

Tensor swiglu(Graph& g, Tensor gate_up, DType type) {
    if (!gate_up) fail("swiglu: gate_up is absent");
    expect(gate_up, {gate_up.rows(), gate_up.cols()}, DType::f32, "swiglu: gate_up");
    uint32_t stride = count32(gate_up.cols(), "swiglu: columns of gate_up");
    if (stride % 2) fail("swiglu: gate_up '{}' has {} columns, expected an even number", gate_up.name(), stride);
    Layout l{count32(gate_up.rows(), "swiglu: rows of gate_up"), stride / 2, stride, stride / 2};
    const bool round = type != DType::f32 && g.requires_gradient(gate_up);
    Tensor saved = round ? g.tensor(gate_up.shape(), type, "gate_up") : Tensor();
    Tensor y = g.tensor({l.rows, l.cols}, type, "swiglu"), kept = saved ? saved : gate_up;
    forward(g, gate_up, gate_up, saved, y, l);
    if (saved) g.recompute_by(y, [=](Graph& graph, Tensor again) { forward(graph, saved, saved, {}, again, l); });
    g.on_backward(y, {gate_up}, [=](Graph& graph, Tensor dy) {
        GradientSlot slot = graph.gradient_slot(gate_up, round);
        backward(graph, kept, kept, dy, slot, slot, l);
    });
    return y;
}

}  // namespace vkqat

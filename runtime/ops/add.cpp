#include "runtime/ops/add.h"

#include "runtime/ops/launch.h"
#include "shaders/args/add.h"

namespace vkqat {

Tensor add(Graph& g, Tensor a, Tensor b, std::string name) {
    if (!a) fail("add: a is absent");
    expect(a, a.shape(), DType::f32, "add: a");
    expect(b, a.shape(), DType::f32, "add: b");
    uint32_t count = count32(a.elements(), "add: elements");
    Tensor y = g.like(a, name);
    RowBlocks blocks = row_blocks(g.capabilities(), 1, count);
    g.dispatch(blocks.kernel("add"), {in(a), in(b), out(y)}, AddArgs{.count = count}, blocks.grid, std::move(name),
               {.flops = double(count)});
    g.on_backward(y, {a, b}, [=](Graph& graph, Tensor dy) {
        graph.pass_gradient(a, dy);
        graph.pass_gradient(b, dy);
    });
    return y;
}

}  // namespace vkqat

#include "runtime/ops/cast.h"

#include "runtime/ops/launch.h"
#include "shaders/args/cast.h"

namespace vkqat {

static void convert(Graph& g, Tensor x, Tensor y, std::string label) {
    uint32_t count = count32(x.elements(), label + ": elements");
    RowBlocks blocks = row_blocks(g.capabilities(), 1, count);
    g.dispatch(blocks.kernel(fmt::format("cast_{}_{}", name(x.dtype()), name(y.dtype()))), {in(x), out(y)},
               CastArgs{.count = count}, blocks.grid, std::move(label));
}

Tensor cast(Graph& g, Tensor x, DType to) {
    if (!x) fail("cast: x is absent");
    if (x.dtype() == to) return x;
    if (!is_float(x.dtype()) || !is_float(to) || (x.dtype() != DType::f32 && to != DType::f32))
        fail("cast: '{}' is {} and cannot become {}: one of them must be f32, the other f16 or bf16", x.name(), name(x.dtype()),
             name(to));
    Tensor y = g.tensor(x.shape(), to, x.name());
    convert(g, x, y, "cast");
    return y;
}

void copy(Graph& g, Tensor x, Tensor y, std::string label) {
    if (!x) fail("copy: x is absent");
    expect(x, x.shape(), DType::f32, "copy: x");
    expect(y, x.shape(), DType::f32, "copy: y");
    convert(g, x, y, std::move(label));
}

}  // namespace vkqat

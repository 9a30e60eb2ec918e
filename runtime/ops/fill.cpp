#include "runtime/ops/fill.h"

#include "runtime/ops/launch.h"
#include "shaders/args/fill.h"

namespace vkqat {

void fill(Graph& g, Tensor t, uint32_t word, std::string label) {
    if (!t) fail("fill: the tensor is absent");
    if (bytes(t.dtype()) != 4) fail("fill: '{}' is {}, expected a type of 4 bytes", t.name(), name(t.dtype()));
    uint32_t count = count32(t.elements(), "fill: elements");
    RowBlocks blocks = row_blocks(g.capabilities(), 1, count);
    g.dispatch(blocks.kernel("fill"), {out(t)}, FillArgs{.count = count, .word = word}, blocks.grid, std::move(label));
}

}  // namespace vkqat

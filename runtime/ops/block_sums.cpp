#include "runtime/ops/block_sums.h"

#include "runtime/ops/launch.h"
#include "shaders/args/block_sums.h"

namespace vkqat {

Tensor block_sums(Graph& g, Tensor x, int64_t size, const std::string& name) {
    if (!x) fail("{}: x is absent", name);
    expect(x, {x.rows(), x.cols()}, DType::f32, name + ": x");
    if (g.requires_gradient(x)) fail("{}: block_sums is for inference, but '{}' requires a gradient", name, x.name());
    if (size < 1 || x.cols() % size) fail("{}: blocks of {} do not divide {} columns", name, size, x.cols());
    Tensor y = g.tensor({x.rows(), x.cols() / size}, DType::f32, name);
    const uint32_t lanes = g.capabilities().subgroup_size;
    g.dispatch(Kernel{"block_sums", {lanes, g.capabilities().uniform_loads(), size % lanes == 0}}, {in(x), out(y)},
               BlockSumsArgs{.blocks = count32(y.elements(), name), .size = uint32_t(size)}, linear_grid(y.elements()), name,
               {.flops = double(x.elements())});
    return y;
}

}  // namespace vkqat

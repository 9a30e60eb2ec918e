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

bool can_block_offsets(const Capabilities& c, int64_t columns, int64_t blocks) {
    return blocks > 0 && columns % blocks == 0 && columns / blocks % 4 == 0 && columns <= 24576 && c.shared_memory_bytes >= 32768;
}

Tensor block_offsets(Graph& g, Tensor x, Tensor offsets, const LinearFusion& fusion, const std::string& name) {
    if (!x || !offsets || fusion.swiglu) fail("{}: expected x and offsets, and no SwiGLU", name);
    const int64_t rows = offsets.rows(), blocks = offsets.cols();
    expect(x, {x.rows(), x.cols()}, DType::f32, name + ": x");
    expect(offsets, {rows, blocks}, DType::f32, name + ": offsets");
    if (g.requires_gradient(x)) fail("{}: block_offsets is for inference, but '{}' requires a gradient", name, x.name());
    if (!can_block_offsets(g.capabilities(), x.cols(), blocks)) fail("{}: {} blocks of {} columns", name, blocks, x.cols());
    if (fusion.norm) expect(fusion.norm, {x.cols()}, fusion.norm.dtype(), name + ": norm");
    Tensor y = g.tensor({x.rows(), rows}, DType::f32, name);
    if (fusion.residual) expect(fusion.residual, y.shape(), DType::f32, name + ": residual");
    if (count32(x.rows(), name + ": tokens") > 65535) fail("{}: {} tokens at once are too many", name, x.rows());
    const Capabilities& c = g.capabilities();
    constexpr uint32_t group_rows = 64;
    const bool vector = x.cols() % 4 == 0 && aligned(g, x, 16) && (!fusion.norm || aligned(g, fusion.norm, 16));
    Grid grid = linear_grid((rows + group_rows - 1) / group_rows);
    grid.z = uint32_t(x.rows());
    g.dispatch(Kernel{"block_offsets",
                      {std::min(256u, c.max_workgroup_invocations / c.subgroup_size * c.subgroup_size), group_rows,
                       uint32_t(x.cols() / 4), norm_kind(fusion.norm), vector}},
               {in(x), in(fusion.norm), in(offsets), in(fusion.residual), out(y)},
               BlockOffsetsArgs{.rows = count32(rows, name + ": rows"),
                                .in_cols = count32(x.cols(), name + ": columns"),
                                .block_size = uint32_t(x.cols() / blocks),
                                .eps = fusion.eps},
               grid, name, {.flops = 2.0 * double(x.rows()) * double(rows) * double(blocks)});
    return y;
}

}  // namespace vkqat

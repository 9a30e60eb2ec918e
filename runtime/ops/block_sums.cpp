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

Tensor block_offsets(Graph& g, const std::vector<PackedLayer>& layers, const std::vector<PackedAsymmetry>& of_blocks,
                     const std::string& name) {
    if (layers.empty() || layers.size() != of_blocks.size())
        fail("{}: {} layers, {} of zero points", name, layers.size(), of_blocks.size());
    const int64_t blocks = layers[0].in / layers[0].block_size;
    int64_t rows = 0, row = 0;
    for (const PackedLayer& w : layers) rows += w.out();
    Tensor y = g.tensor({rows, blocks}, DType::f32, name);
    count32(y.elements(), name);
    for (size_t i = 0; i < layers.size(); row += layers[i++].out()) {
        const PackedLayer& w = layers[i];
        check_packed(w, name);
        if (w.in / w.block_size != blocks) fail("{}: blocks of {} and of {}", name, layers[0].block_size, w.block_size);
        if (!of_blocks[i].zeros) fail("{}: a layer without zero points", name);
        expect(of_blocks[i].zeros, {w.scales.elements()}, DType::u8, name + ": zeros");
        const PackedParts parts = packed_parts(w);
        g.dispatch(Kernel{"block_offsets", {64}}, {in(of_blocks[i].zeros), in(w.scales), i == 0 ? out(y) : inout(y)},
                   BlockOffsetsArgs{.first_row = uint32_t(row),
                                    .blocks = uint32_t(blocks),
                                    .tiles_1 = parts.first_tile[1],
                                    .tiles_2 = parts.first_tile[2],
                                    .rows_0 = parts.rows[0],
                                    .rows_1 = parts.rows[1],
                                    .rows_2 = parts.rows[2],
                                    .center = of_blocks[i].center},
                   linear_grid((w.out() * blocks + 63) / 64), name);
    }
    return y;
}

}  // namespace vkqat

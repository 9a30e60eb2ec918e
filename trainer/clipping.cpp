#include "trainer/clipping.h"

#include <algorithm>

#include "runtime/ops/launch.h"
#include "shaders/args/clipping.h"

namespace vkqat {

void gram_blocks(Graph& g, Tensor x, Tensor gram) {
    expect(x, {x.rows(), x.cols()}, DType::f32, "gram_blocks: x");
    const int64_t group = gram.shape().rank() == 3 ? gram.shape()[1] : 0;
    if (group < 1 || x.cols() % group) fail("gram_blocks: inputs of {} columns have no groups of {}", x.cols(), group);
    expect(gram, {x.cols() / group, group, group}, DType::f32, "gram_blocks: gram");
    const Capabilities& device = g.capabilities();
    g.dispatch(Kernel{"gram_blocks", {device.subgroup_size, device.uniform_loads()}}, {in(x), out(gram)},
               GramBlocksArgs{.tokens = count32(x.rows(), "gram_blocks: tokens"),
                              .cols = count32(x.cols(), "gram_blocks: columns"),
                              .group = uint32_t(group)},
               linear_grid(x.cols()), "gram_blocks", {.flops = 2.0 * double(x.elements() * group)});
}

void search_clipping(Graph& g, Tensor w, Tensor gram, Tensor bounds, Tensor error, const QuantizerConfig& config,
                     const std::string& layer) {
    in_context(layer, [&] { validate(config); });
    if (!config.asymmetric()) fail("{}: clipping is for the quantizers int_asym and nf, not {}", layer, name(config.kind));
    expect(w, {w.rows(), w.cols()}, DType::f32, layer + ": weight");
    const BlockLayout layout = block_layout(config, w.rows(), w.cols(), layer);
    const int64_t group = layout.block_cols;
    if (group > most_clip_group) fail("{}: clipping takes groups of at most {} columns, not {}", layer, most_clip_group, group);
    expect(gram, {layout.cols, group, group}, DType::f32, layer + ": gram");
    expect(bounds, {w.rows(), layout.cols, 2}, DType::f32, layer + ": bounds");
    expect(error, bounds.shape(), DType::f32, layer + ": errors");
    const Capabilities& device = g.capabilities();
    g.dispatch(Kernel{"clip_search",
                      {device.subgroup_size, device.uniform_loads(), uint32_t(config.kind), 0, uint32_t(config.bits),
                       group % device.subgroup_size == 0, uint32_t(group)}},
               {in(w), in(gram), out(bounds), out(error)},
               ClipSearchArgs{.rows = count32(w.rows(), layer), .cols = count32(w.cols(), layer), .group = uint32_t(group)},
               linear_grid(layout.blocks()), "clip_search", {.flops = 200.0 * double(w.elements() * group)});
}

void clip_weights(std::span<float> weight, std::span<const float> bounds, int64_t group) {
    for (size_t i = 0; i < weight.size(); i++) {
        const size_t block = i / size_t(group);
        weight[i] = std::min(std::max(weight[i], bounds[2 * block]), bounds[2 * block + 1]);
    }
}

}  // namespace vkqat

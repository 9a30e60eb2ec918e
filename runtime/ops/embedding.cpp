#include "runtime/ops/embedding.h"

#include <numeric>

#include "runtime/ops/cast.h"
#include "runtime/ops/fill.h"
#include "runtime/ops/launch.h"
#include "shaders/args/embedding.h"

namespace vkqat {

std::vector<int32_t> sort_by_id(std::span<const int32_t> ids) {
    std::vector<int32_t> order(ids.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return ids[size_t(a)] < ids[size_t(b)]; });
    return order;
}

Tensor embedding(Graph& g, Tensor ids, Tensor weight, Tensor order) {
    if (!ids) fail("embedding: ids is absent");
    std::string shader = typed_shader("embedding", weight, "embedding: weight");
    expect(ids, {ids.elements()}, DType::i32, "embedding: ids");
    expect(weight, {weight.rows(), weight.cols()}, weight.dtype(), "embedding: weight");
    uint32_t tokens = count32(ids.elements(), "embedding: tokens"), vocab = count32(weight.rows(), "embedding: rows of weight"),
             dim = count32(weight.cols(), "embedding: columns of weight");
    if (order) expect(order, ids.shape(), DType::i32, "embedding: order");
    if (g.requires_gradient(weight) && !order)
        fail("embedding: the gradient of '{}' needs `order`, the tokens sorted by id", weight.name());
    Tensor y = g.tensor({tokens, dim}, DType::f32, "embedding");
    RowBlocks blocks = row_blocks(g.capabilities(), tokens, dim);
    double rows = double(tokens) * dim;
    g.dispatch(blocks.kernel(shader), {in(ids), in(weight), out(y)}, EmbeddingArgs{.tokens = tokens, .vocab = vocab, .dim = dim},
               blocks.grid, "embedding", {.bytes = 4.0 * tokens + rows * double(bytes(weight.dtype()) + 4)});
    g.on_backward(y, {weight}, [=](Graph& graph, Tensor dy) {
        GradientSlot s = graph.gradient_slot(weight);
        if (!s.base)
            fill(graph, s.out, 0.f, "embedding.zero");
        else if (s.base != s.out)
            copy(graph, s.base, s.out, "embedding.base");
        graph.dispatch(blocks.kernel("embedding_backward"), {in(ids), in(order), in(dy), inout(s.out)},
                       EmbeddingBackwardArgs{.tokens = tokens, .vocab = vocab, .dim = dim}, blocks.grid, "embedding",
                       {.flops = rows, .bytes = 8.0 * tokens + 12 * rows});
    });
    return y;
}

}  // namespace vkqat

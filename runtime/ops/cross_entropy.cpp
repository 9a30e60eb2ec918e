#include "runtime/ops/cross_entropy.h"

#include <algorithm>

#include "runtime/ops/matmul.h"
#include "shaders/args/cross_entropy.h"

namespace vkqat {

HeadLoss head_loss(Graph& g, Tensor hidden, Tensor head, Tensor labels, Tensor scale, const HeadLossOptions& options) {
    int64_t tokens = hidden.rows(), dim = hidden.cols(), vocab = head.rows();
    if (head.cols() != dim) fail("head: weight is {}, hidden states are {}", head.shape().text(), hidden.shape().text());
    expect(labels, {tokens}, DType::i32, "labels");
    expect(scale, {1}, DType::f32, "scale of the loss");
    const uint32_t width = g.capabilities().subgroup_size;
    HeadLoss result;
    result.rows = options.rows ? options.rows : g.tensor({tokens}, DType::f32, "loss.rows");
    result.sum = options.sum ? options.sum : g.tensor({1}, DType::f32, "loss");
    bool train_hidden = g.training() && g.requires_gradient(hidden), train_head = g.training() && g.requires_gradient(head);
    bool gradient = train_hidden || train_head;
    GradientSlot d_hidden = train_hidden ? g.gradient_slot(hidden) : GradientSlot{};

    for (int64_t begin = 0; begin < tokens; begin += options.chunk_rows) {
        int64_t rows = std::min(options.chunk_rows, tokens - begin);
        auto chunk = [&](Tensor t, const std::string& name) {
            if (!t) return t;
            int64_t cols = t.shape().rank() > 1 ? t.cols() : 1;
            return g.view(t, uint64_t(begin * cols) * bytes(t.dtype()), t.shape().rank() > 1 ? Shape{rows, cols} : Shape{rows},
                          name);
        };
        Tensor logits = g.tensor({rows, vocab}, DType::f32, "logits");
        Tensor x = chunk(hidden, "hidden.chunk");
        matmul(g, Product::nt, x, head, {}, logits, "head");
        g.dispatch(Kernel{"cross_entropy", {width}},
                   {inout(logits), in(chunk(labels, "labels.chunk")), out(chunk(result.rows, "loss.chunk")), in(scale)},
                   CrossEntropyArgs{.rows = uint32_t(rows), .vocab = uint32_t(vocab), .gradient = gradient}, linear_grid(rows),
                   "cross_entropy", {.flops = double(rows * vocab) * (gradient ? 8 : 4)});
        if (train_hidden)
            matmul(g, Product::nn, logits, head, chunk(d_hidden.base, "d.hidden.base"), chunk(d_hidden.out, "d.hidden.chunk"),
                   "head.dx");
        if (train_head) {
            GradientSlot d_head = g.gradient_slot(head);
            matmul(g, Product::tn, logits, x, d_head.base, d_head.out, "head.dw");
        }
    }
    g.dispatch(Kernel{"scaled_sum", {width}}, {in(result.rows), in(scale), in(options.base), out(result.sum)},
               ScaledSumArgs{.count = uint32_t(tokens)}, Grid{}, "loss");
    return result;
}

}  // namespace vkqat

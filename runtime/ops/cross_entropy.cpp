#include "runtime/ops/cross_entropy.h"

#include <algorithm>

#include "runtime/ops/launch.h"
#include "runtime/ops/matmul.h"
#include "shaders/args/cross_entropy.h"

namespace vkqat {

void cross_entropy(Graph& g, Tensor logits, Tensor labels, Tensor loss, Tensor scale, Tensor d_logits, const std::string& label) {
    const int64_t rows = logits.rows(), vocab = logits.cols();
    expect(logits, {rows, vocab}, DType::f32, label + ": logits");
    expect(labels, {rows}, DType::i32, label + ": labels");
    expect(loss, {rows}, DType::f32, label + ": loss");
    std::string shader = d_logits ? typed_shader("cross_entropy", d_logits, label + ": d_logits") : "cross_entropy_f32";
    if (d_logits) expect(d_logits, logits.shape(), d_logits.dtype(), label + ": d_logits");
    g.dispatch(row_kernel(g.capabilities(), shader, vocab), {in(logits), in(labels), out(loss), in(scale), out(d_logits)},
               CrossEntropyArgs{.rows = count32(rows, label + ": rows"), .vocab = count32(vocab, label + ": vocabulary")},
               linear_grid(rows), label, {.flops = double(rows * vocab) * (d_logits ? 8 : 4)});
}

HeadLoss head_loss(Graph& g, Tensor hidden, Tensor head, Tensor labels, Tensor scale, const HeadLossOptions& options) {
    int64_t tokens = hidden.rows(), dim = hidden.cols(), vocab = head.rows();
    if (head.cols() != dim) fail("head: weight is {}, hidden states are {}", head.shape().text(), hidden.shape().text());
    expect(labels, {tokens}, DType::i32, "labels");
    expect(scale, {1}, DType::f32, "scale of the loss");
    const uint32_t width = g.capabilities().subgroup_size;
    constexpr int64_t enough = int64_t(1) << 28;
    const int64_t chunk_rows =
        options.chunk_rows ? options.chunk_rows : std::clamp<int64_t>(enough / vocab / 128 * 128, 128, 8192);
    const DType type = product_type(g);
    HeadLoss result;
    result.rows = options.rows ? options.rows : g.tensor({tokens}, DType::f32, "loss.rows");
    result.sum = options.sum ? options.sum : g.tensor({1}, DType::f32, "loss");
    bool train_hidden = g.training() && g.requires_gradient(hidden), train_head = g.training() && g.requires_gradient(head);
    bool gradient = train_hidden || train_head;
    GradientSlot d_hidden = train_hidden ? g.gradient_slot(hidden) : GradientSlot{};

    for (int64_t begin = 0; begin < tokens; begin += chunk_rows) {
        int64_t rows = std::min(chunk_rows, tokens - begin);
        auto chunk = [&](Tensor t, const std::string& name) {
            if (!t) return t;
            int64_t cols = t.shape().rank() > 1 ? t.cols() : 1;
            return g.view(t, uint64_t(begin * cols) * bytes(t.dtype()), t.shape().rank() > 1 ? Shape{rows, cols} : Shape{rows},
                          name);
        };
        Tensor logits = g.tensor({rows, vocab}, DType::f32, "logits");
        Tensor x = chunk(hidden, "hidden.chunk");
        matmul(g, Product::nt, x, head, {}, logits, "head");
        Tensor d_logits = !gradient ? Tensor() : type == DType::f32 ? logits : g.tensor(logits.shape(), type, "d.logits");
        cross_entropy(g, logits, chunk(labels, "labels.chunk"), chunk(result.rows, "loss.chunk"),
                      options.gradient_scale ? options.gradient_scale : scale, d_logits);
        if (train_hidden)
            matmul(g, Product::nn, d_logits, head, chunk(d_hidden.base, "d.hidden.base"), chunk(d_hidden.out, "d.hidden.chunk"),
                   "head.dx");
        if (train_head) {
            GradientSlot d_head = g.gradient_slot(head);
            matmul(g, Product::tn, d_logits, x, d_head.base, d_head.out, "head.dw");
        }
    }
    g.dispatch(Kernel{"scaled_sum", {width}}, {in(result.rows), in(scale), in(options.base), out(result.sum)},
               ScaledSumArgs{.count = uint32_t(tokens)}, Grid{}, "loss");
    return result;
}

}  // namespace vkqat

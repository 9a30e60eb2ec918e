#include "runtime/ops/distillation.h"

#include <algorithm>
#include <array>

#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/launch.h"
#include "runtime/ops/matmul.h"
#include "shaders/args/cross_entropy.h"
#include "shaders/args/distillation.h"

namespace vkqat {
namespace {

constexpr std::array<std::string_view, 5> loss_names = {"forward", "reverse", "jsd", "tlsd", "cakld"};
enum Mode : uint32_t { mix, jsd, soft };  // as in distillation.comp
constexpr std::array<Mode, 5> modes = {mix, mix, jsd, soft, mix};

Tensor rows_of(Graph& g, Tensor t, int64_t begin, int64_t rows) {
    if (!t) return t;
    const bool matrix = t.shape().rank() > 1;
    return g.view(t, uint64_t(begin * (matrix ? t.cols() : 1)) * bytes(t.dtype()), matrix ? Shape{rows, t.cols()} : Shape{rows},
                  t.name());
}

void add_scaled(Graph& g, Tensor values, Tensor scale, Tensor base, Tensor sum, const std::string& label) {
    g.dispatch(Kernel{"scaled_sum", {g.capabilities().subgroup_size}}, {in(values), in(scale), in(base), out(sum)},
               ScaledSumArgs{.count = count32(values.elements(), label)}, Grid{}, label);
}

// The teacher's loss of each label, and from it the weight of each token.
Tensor teacher_scales(Graph& g, const DistillationHead& h) {
    const int64_t tokens = h.hidden.rows(), vocab = h.head.rows();
    if (h.seq_len < 1 || tokens % h.seq_len) fail("tlsd: {} tokens are no whole sequences of {}", tokens, h.seq_len);
    Tensor weights = g.tensor({tokens}, DType::f32, "teacher.scales");
    const Shape shape{tokens / h.seq_len, h.seq_len};
    if (h.teacher_top.ids) {
        token_scales(g, g.reshape(h.teacher_top.loss, shape), g.reshape(weights, shape));
        return weights;
    }
    Tensor losses = g.tensor({tokens}, DType::f32, "teacher.loss");
    Tensor one = rows_of(g, h.factors, 0, 1);  // read, but without a gradient of no effect
    for (int64_t begin = 0; begin < tokens; begin += h.chunk_rows) {
        const int64_t rows = std::min(h.chunk_rows, tokens - begin);
        Tensor logits = g.tensor({rows, vocab}, DType::f32, "teacher.logits");
        matmul(g, Product::nt, rows_of(g, h.teacher_hidden, begin, rows), h.teacher_head, {}, logits, "teacher.head");
        cross_entropy(g, logits, rows_of(g, h.labels, begin, rows), rows_of(g, losses, begin, rows), one, {},
                      "teacher.cross_entropy");
    }
    token_scales(g, g.reshape(losses, shape), g.reshape(weights, shape));
    return weights;
}

void check_top(const TopLogits& top, int64_t rows, int64_t vocab, const std::string& label) {
    if (!top.ids || top.ids.shape().rank() != 2 || top.ids.cols() < 1 || top.ids.cols() > vocab)
        fail("{}: expected the ids of 1 to {} logits of each row", label, vocab);
    expect(top.ids, {rows, top.ids.cols()}, DType::i32, label + ": ids");
    expect(top.values, {rows, top.ids.cols()}, DType::f32, label + ": values");
    expect(top.norm, {rows}, DType::f32, label + ": norms");
    expect(top.loss, {rows}, DType::f32, label + ": losses of the labels");
    expect(top.confidence, {rows}, DType::f32, label + ": confidence");
}

}  // namespace

std::string_view name(DistillationLoss loss) { return loss_names[size_t(loss)]; }

DistillationLoss parse_distillation_loss(std::string_view text) {
    auto found = std::find(loss_names.begin(), loss_names.end(), text);
    if (found == loss_names.end()) fail("unknown distillation loss '{}'; possible are {}", text, fmt::join(loss_names, ", "));
    return DistillationLoss(found - loss_names.begin());
}

float distillation_coefficient(DistillationLoss loss, float given) {
    if (loss == DistillationLoss::forward || loss == DistillationLoss::tlsd) return 0;
    if (loss == DistillationLoss::reverse) return 1;
    if (!(given >= 0 && given <= 1)) fail("distillation loss '{}': its coefficient is {}, expected 0 to 1", name(loss), given);
    return given;
}

void distillation_rows(Graph& g, DistillationLoss loss, Tensor student, Tensor teacher, const DistillationRows& r) {
    const std::string label = "distillation";
    if (!student) fail("{}: the student's logits are absent", label);
    const int64_t rows = student.rows(), vocab = student.cols();
    expect(student, {rows, vocab}, DType::f32, label + ": student's logits");
    expect(teacher, {rows, vocab}, DType::f32, label + ": teacher's logits");
    expect(r.labels, {rows}, DType::i32, label + ": labels");
    expect(r.factors, {3}, DType::f32, label + ": factors");
    expect(r.distance, {rows}, DType::f32, label + ": distances");
    expect(r.entropy, {rows}, DType::f32, label + ": cross-entropies");
    if (loss == DistillationLoss::tlsd) expect(r.weights, {rows}, DType::f32, label + ": weights of the tokens");
    if (r.confidence) expect(r.confidence, {rows}, DType::f32, label + ": confidence");
    Kernel kernel = row_kernel(g.capabilities(), "distillation", vocab);
    kernel.constants.push_back(modes[size_t(loss)]);
    g.dispatch(kernel,
               {inout(student), in(teacher), in(r.labels), in(r.factors), in(r.weights), out(r.distance), out(r.entropy),
                out(r.confidence)},
               DistillationArgs{.rows = count32(rows, label), .vocab = count32(vocab, label), .gradient = r.gradient},
               linear_grid(rows), label, {.flops = double(rows * vocab) * 30});
}

void top_logits(Graph& g, Tensor logits, Tensor labels, const TopLogits& top) {
    const std::string label = "top_logits";
    if (!logits) fail("{}: the logits are absent", label);
    const int64_t rows = logits.rows(), vocab = logits.cols();
    expect(logits, {rows, vocab}, DType::f32, label + ": logits");
    expect(labels, {rows}, DType::i32, label + ": labels");
    check_top(top, rows, vocab, label);
    const Capabilities& c = g.capabilities();
    g.dispatch(Kernel{"top_logits", {c.subgroup_size, c.uniform_loads() && vocab % 8 == 0}},
               {in(logits), in(labels), out(top.ids), out(top.values), out(top.norm), out(top.loss), out(top.confidence)},
               TopLogitsArgs{.rows = count32(rows, label), .vocab = count32(vocab, label), .k = count32(top.ids.cols(), label)},
               linear_grid(rows), label, {.flops = double(rows * vocab) * 70});
}

void spread_logits(Graph& g, Tensor student, const TopLogits& top, Tensor teacher) {
    const std::string label = "spread_logits";
    if (!student) fail("{}: the student's logits are absent", label);
    const int64_t rows = student.rows(), vocab = student.cols();
    expect(student, {rows, vocab}, DType::f32, label + ": student's logits");
    expect(teacher, {rows, vocab}, DType::f32, label + ": teacher's logits");
    check_top(top, rows, vocab, label);
    g.dispatch(
        row_kernel(g.capabilities(), "spread_logits", vocab),
        {in(student), in(top.ids), in(top.values), in(top.norm), out(teacher)},
        SpreadLogitsArgs{.rows = count32(rows, label), .vocab = count32(vocab, label), .k = count32(top.ids.cols(), label)},
        linear_grid(rows), label, {.flops = double(rows * vocab) * 10});
}

void token_scales(Graph& g, Tensor losses, Tensor weights, float temperature) {
    expect(losses, {losses.rows(), losses.cols()}, DType::f32, "token_scales: losses");
    expect(weights, losses.shape(), DType::f32, "token_scales: weights");
    g.dispatch(Kernel{"token_scales", {g.capabilities().subgroup_size}}, {in(losses), out(weights)},
               TokenScalesArgs{.sequences = count32(losses.rows(), "token_scales: sequences"),
                               .seq_len = count32(losses.cols(), "token_scales: tokens"),
                               .temperature = temperature},
               linear_grid(losses.rows()), "token_scales");
}

DistillationSums distillation_head(Graph& g, DistillationLoss loss, const DistillationHead& h) {
    const int64_t tokens = h.hidden.rows(), vocab = h.head.rows();
    if (h.head.cols() != h.hidden.cols())
        fail("distillation: the student's head is {}, its hidden states are {}", h.head.shape().text(), h.hidden.shape().text());
    const bool kept = bool(h.teacher_top.ids);
    if (kept) {
        check_top(h.teacher_top, tokens, vocab, "distillation");
    } else {
        if (h.teacher_head.rows() != vocab)
            fail("distillation: the teacher's vocabulary has {} tokens, the student's {}: they must be the same",
                 h.teacher_head.rows(), vocab);
        if (h.teacher_hidden.rows() != tokens || h.teacher_hidden.cols() != h.teacher_head.cols())
            fail("distillation: the teacher's head is {}, its hidden states are {} for {} tokens", h.teacher_head.shape().text(),
                 h.teacher_hidden.shape().text(), tokens);
    }
    expect(h.factors, {3}, DType::f32, "distillation: factors");
    DistillationSums result;
    auto planned = [&](Tensor given, const Shape& shape, const char* what) {
        return given ? given : g.tensor(shape, DType::f32, what);
    };
    result.distance = planned(h.distance, {tokens}, "distillation.rows");
    result.entropy = planned(h.entropy, {tokens}, "loss.rows");
    result.sum = planned(h.sum, {1}, "loss");
    Tensor weights = loss == DistillationLoss::tlsd ? teacher_scales(g, h) : Tensor();
    const bool train_hidden = g.training() && g.requires_gradient(h.hidden),
               train_head = g.training() && g.requires_gradient(h.head);
    const GradientSlot d_hidden = train_hidden ? g.gradient_slot(h.hidden) : GradientSlot{};
    for (int64_t begin = 0; begin < tokens; begin += h.chunk_rows) {
        const int64_t rows = std::min(h.chunk_rows, tokens - begin);
        auto chunk = [&](Tensor t) { return rows_of(g, t, begin, rows); };
        Tensor student = g.tensor({rows, vocab}, DType::f32, "logits"), teacher = g.like(student, "teacher.logits");
        Tensor x = chunk(h.hidden);
        matmul(g, Product::nt, x, h.head, {}, student, "head");
        if (kept) {
            const TopLogits& top = h.teacher_top;
            spread_logits(g, student,
                          {chunk(top.ids), chunk(top.values), chunk(top.norm), chunk(top.loss), chunk(top.confidence)}, teacher);
        } else {
            matmul(g, Product::nt, chunk(h.teacher_hidden), h.teacher_head, {}, teacher, "teacher.head");
        }
        distillation_rows(g, loss, student, teacher,
                          {.labels = chunk(h.labels),
                           .factors = h.factors,
                           .weights = chunk(weights),
                           .distance = chunk(result.distance),
                           .entropy = chunk(result.entropy),
                           .confidence = chunk(h.confidence),
                           .gradient = train_hidden || train_head});
        if (train_hidden) matmul(g, Product::nn, student, h.head, chunk(d_hidden.base), chunk(d_hidden.out), "head.dx");
        if (train_head) {
            const GradientSlot d_head = g.gradient_slot(h.head);
            matmul(g, Product::tn, student, x, d_head.base, d_head.out, "head.dw");
        }
    }
    Tensor first = g.tensor({1}, DType::f32, "loss.distance");
    add_scaled(g, result.distance, rows_of(g, h.factors, 0, 1), h.base, first, "distillation.loss");
    add_scaled(g, result.entropy, rows_of(g, h.factors, 1, 1), first, result.sum, "loss");
    return result;
}

void hidden_distance(Graph& g, Tensor student, Tensor teacher, Tensor scale, Tensor base, Tensor sum) {
    const std::string label = "hidden_distance";
    if (!student) fail("{}: the student's hidden states are absent", label);
    expect(student, {student.rows(), student.cols()}, DType::f32, label + ": student's hidden states");
    expect(teacher, student.shape(), DType::f32, label + ": teacher's hidden states");
    expect(scale, {1}, DType::f32, label + ": scale");
    expect(sum, {1}, DType::f32, label + ": sum");
    Tensor rows = g.tensor({student.rows()}, DType::f32, "hidden_distance.rows");
    const GradientSlot slot = g.training() && g.requires_gradient(student) ? g.gradient_slot(student) : GradientSlot{};
    g.dispatch(row_kernel(g.capabilities(), "hidden_distance", student.cols()),
               {in(student), in(teacher), in(scale), out(rows), in(slot.base), out(slot.out)},
               HiddenDistanceArgs{.rows = count32(student.rows(), label), .dim = count32(student.cols(), label)},
               linear_grid(student.rows()), label, {.flops = 12.0 * double(student.elements())});
    add_scaled(g, rows, scale, base, sum, label);
}

}  // namespace vkqat

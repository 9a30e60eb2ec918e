#include "runtime/ops/token_scores.h"

#include "runtime/ops/launch.h"
#include "shaders/args/token_scores.h"

namespace vkqat {

void token_scores(Graph& g, Tensor logits, Tensor labels, Tensor nll, Tensor best) {
    const uint32_t rows = count32(logits.rows(), "token_scores: rows"),
                   vocab = count32(logits.cols(), "token_scores: vocabulary");
    expect(logits, {rows, vocab}, DType::f32, "token_scores: logits");
    expect(labels, {rows}, DType::i32, "token_scores: labels");
    expect(nll, {rows}, DType::f32, "token_scores: nll");
    expect(best, {rows}, DType::i32, "token_scores: best");
    g.dispatch(Kernel{"token_scores", {g.capabilities().subgroup_size}}, {in(logits), in(labels), out(nll), out(best)},
               TokenScoresArgs{.rows = rows, .vocab = vocab}, linear_grid(rows), "token_scores",
               {.flops = 4.0 * double(rows) * vocab});
}

}  // namespace vkqat

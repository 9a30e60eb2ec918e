// The language-model head and its loss in chunks of rows, so that no [tokens, vocab] matrix exists in full.
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

struct HeadLoss {
    Tensor rows;  // f32 [tokens]: negative log-likelihood of each label in nats, 0 where the label is negative
    Tensor sum;   // f32 [1]: scale * sum(rows), added to `base` if there is one
};

// loss f32 [rows] = -log softmax(logits)[label] in nats, 0 where the label is negative. logits f32 [rows, vocab], labels i32
// [rows]. d_logits, if there: (softmax(logits) - onehot(label)) * scale[0] in f32, f16 or bf16; it may be the logits. scale f32
// [1].
void cross_entropy(Graph& g, Tensor logits, Tensor labels, Tensor loss, Tensor scale, Tensor d_logits,
                   const std::string& label = "cross_entropy");

// hidden [tokens, dim] f32|f16|bf16, head [vocab, dim] f32|f16|bf16, labels i32 [tokens] (negative: not counted), scale f32 [1]
// (what a token's loss is multiplied with, as 1 / tokens of the global batch). In training the gradients of hidden and head
// follow at once, chunk by chunk, with dL/dsum = 1: the backward pass starts here, and `hidden_gradient` seeds it
// (Graph::backward).
struct HeadLossOptions {
    Tensor gradient_scale = {};  // f32 [1]: instead of `scale` for the gradients (loss scaling); absent: `scale`
    int64_t chunk_rows = 0;      // tokens whose logits exist at a time; 0: about a GB of logits
    Tensor base = {};            // f32 [1]: losses of earlier micro-steps
    Tensor sum = {};             // f32 [1], where to write the sum; absent: a planned tensor
    Tensor rows = {};            // f32 [tokens], likewise
};
HeadLoss head_loss(Graph& g, Tensor hidden, Tensor head, Tensor labels, Tensor scale, const HeadLossOptions& options = {});

}  // namespace vkqat

// What logits say of given tokens.
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

// logits f32 [rows, vocab], labels i32 [rows] -> nll f32 [rows], nats of each label, and best i32 [rows], the id with the
// largest logit, the lowest of several; 0 and -1 where a label is negative or not below vocab. Error if a shape does not fit.
void token_scores(Graph& g, Tensor logits, Tensor labels, Tensor nll, Tensor best);

}  // namespace vkqat

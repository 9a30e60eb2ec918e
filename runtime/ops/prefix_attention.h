// Causal attention over one packed row of sequences that share prefixes: the choices of a question behind its context.
#pragma once

#include "runtime/ops/attention.h"

namespace vkqat {

// As attention() in inference, with shape.batch 1. Query i sees the keys first[i] .. i, without skip_from[i] .. skip_to[i] - 1:
// the sequences that stand between the shared prefix and the query's own. first, skip_from, skip_to: i32 [seq_len]; first never
// decreases and is at most i; the part that is left out does not hold i. Error if a shape does not fit or in training.
Tensor prefix_attention(Graph& g, Tensor qkv, const AttentionShape& shape, Tensor first, Tensor skip_from, Tensor skip_to);

}  // namespace vkqat

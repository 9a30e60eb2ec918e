// Token embedding.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/graph/graph.h"

namespace vkqat {

// y[t] = weight[ids[t]]. ids: i32 [tokens]; weight: f32, f16 or bf16 [vocab, dim]; y: f32 [tokens, dim]. An id outside
// 0 .. vocab - 1 gives a row of zeros and no gradient; whoever fills `ids` checks them.
// order: i32 [tokens], sort_by_id(ids); needed where the weight is trained: it makes the sum over the tokens of one id
// deterministic without atomics. The gradient of ids that do not occur is 0 (or what it was, where gradients are accumulated).
// Errors: shapes or types that do not fit, no `order` where the weight is trained.
Tensor embedding(Graph& g, Tensor ids, Tensor weight, Tensor order = {});

// The places of `ids` in the order of their ids; equal ids stay in order.
std::vector<int32_t> sort_by_id(std::span<const int32_t> ids);

}  // namespace vkqat

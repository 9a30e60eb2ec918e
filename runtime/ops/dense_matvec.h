// A linear layer with a dense weight, for the few tokens of a decoding step.
#pragma once

#include "runtime/graph/graph.h"
#include "runtime/ops/fusion.h"

namespace vkqat {

// y = x W^T with what is folded into it, in `into` or a new tensor. x f32 [tokens, in], weight [out, in] f32|f16|bf16 -> f32
// [tokens, out], or [tokens, out / 2] with swiglu (gate rows first). All sums in fp32. Inference only. The special kernel
// (16-byte reads, x in shared memory) serves up to 8 tokens on GPUs, 2 of a head where there are matrix units, and rows that are
// multiples of 16 bytes; anything else goes through the product of matmul.h and separate operations.
Tensor dense_linear(Graph& g, Tensor x, Tensor weight, const std::string& label, const LinearFusion& fusion = {},
                    const MatvecTuning& tuning = {}, Tensor into = {});

// Whether dense_linear() uses its special kernel; a tuning with a width forces it on any device (tests).
bool has_dense_matvec(const Graph& g, Tensor x, Tensor weight);

}  // namespace vkqat

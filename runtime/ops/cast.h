// Between f32 and the 16-bit floating-point types.
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

// x as another type, of the same shape: f32 to f16 or bf16, or back; to bf16 rounded to nearest, ties to even, to f16 as the
// device rounds. x itself if it has the type already. No gradient. Errors: any other pair of types.
Tensor cast(Graph& g, Tensor x, DType to);

// y = x, both f32 and of the same shape. No gradient.
void copy(Graph& g, Tensor x, Tensor y, std::string label = "copy");

}  // namespace vkqat

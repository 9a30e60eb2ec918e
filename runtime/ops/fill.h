// Tensors set to a constant.
#pragma once

#include <bit>

#include "runtime/graph/graph.h"

namespace vkqat {

// Writes `word` to each element of t, which has elements of 4 bytes (f32, u32, i32). No gradient.
void fill(Graph& g, Tensor t, uint32_t word, std::string label = "fill");
inline void fill(Graph& g, Tensor t, float value, std::string label = "fill") {
    fill(g, t, std::bit_cast<uint32_t>(value), std::move(label));
}

}  // namespace vkqat

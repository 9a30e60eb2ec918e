// Reading alone: the ceiling that bandwidths are compared with (vkqat bench).
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

// Reads all of t once, 16 bytes at a time. Returns u32 [any], whose XOR is that of all words of t. Error unless t is whole
// vectors of 16 bytes at a multiple of 16.
Tensor read_all(Graph& g, Tensor t);

}  // namespace vkqat

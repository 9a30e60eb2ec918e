// Random contents made on the device: models and inputs of benchmarks.
#pragma once

#include "runtime/graph/graph.h"

namespace vkqat {

// t of whole 16 bytes: u32 gets random bits; f32, f16 and bf16 numbers between low and high. The same seed gives the same
// contents.
void random_fill(Graph& g, Tensor t, uint32_t seed, float low = -1, float high = 1);

}  // namespace vkqat

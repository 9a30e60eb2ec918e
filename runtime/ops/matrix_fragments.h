// Where the elements of matrices of VK_KHR_cooperative_matrix lie: the specification leaves it to the driver, so kernels that
// make elements in the lanes, instead of loading them, run only where it is known.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "runtime/graph/graph.h"

namespace vkqat {

// Whether matrices of 16 x 8 x 16 (m, n, k; f16 products, f32 sums; subgroups of 32) lie like this, lane l = 4 g + q:
//   A, 8 elements: row g, columns 2q, 2q + 1, 2q + 8, 2q + 9; row g + 8, the same
//   B, 4 elements: rows 2q, 2q + 1, 2q + 8, 2q + 9 of column g
//   C, 4 elements: row g, columns 2q, 2q + 1; row g + 8, the same
// So NVIDIA's instructions have them (PTX ISA, mma.m16n8k16), the driver's order of A's elements being its own. Known for that
// driver; tests/ops/matrix_fragments_test.cpp asks the device.
bool known_matrix_fragments(const Capabilities& device);

// What the device says: for each lane the numbers 16 * row + column of its elements of A, then of B and C (8 * row + column),
// f32 [32, 16]. Error without matrices of that shape.
Tensor matrix_fragments(Graph& g);

}  // namespace vkqat

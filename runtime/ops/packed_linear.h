// A linear layer whose weight stays packed: indices into a table of centroids, times a scale per block of a row.
#pragma once

#include <cstdint>

#include "runtime/graph/graph.h"

namespace vkqat {

// W[o, i] = centroids[index(o, i)] * scales[o, i / block_size]. The layout is that of runtime/formats/packing.h: a row's indices
// are one stream of bits, most significant bit first; a row is a whole number of bytes.
struct PackedLayer {
    Tensor indices;    // u8 [out, in * bits / 8], its address a multiple of 4
    Tensor scales;     // bf16 [out, in / block_size]
    Tensor centroids;  // f32 [2^bits]
    int bits = 0;      // 1, 2, 3, 4 or 8
    int64_t block_size = 0;
    int64_t out = 0, in = 0;
};

// y = x W^T, straight from the packed weight. x f32 [tokens, in] -> f32 [tokens, out]. Weights are decoded once for up to eight
// tokens. Inference only: Error if x requires a gradient, or a tensor does not have its shape.
Tensor packed_linear(Graph& g, Tensor x, const PackedLayer& w, const std::string& label = "packed_linear");

// The same into the columns first_column .. first_column + out - 1 of y, f32 [tokens, any]: q, k and v side by side.
void packed_linear_into(Graph& g, Tensor x, const PackedLayer& w, Tensor y, int64_t first_column, const std::string& label);

// W [out, in] as f32, f16 or bf16.
Tensor dequantize(Graph& g, const PackedLayer& w, DType type);

// The variants of packed_linear; which one runs follows from the device, tests run them all.
enum class PackedLinearVariant { automatic, rows, subgroup };
Tensor packed_linear(Graph& g, Tensor x, const PackedLayer& w, const std::string& label, PackedLinearVariant variant);

}  // namespace vkqat

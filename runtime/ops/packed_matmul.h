// A linear layer whose weight stays packed, for many tokens: products on matrix units, weights unpacked on their way there.
#pragma once

#include <optional>

#include "runtime/graph/graph.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/packed_linear.h"

namespace vkqat {

struct PackedMatmulOptions {
    // Of the products, which are summed in fp32. bf16 (8 bits of precision, the range of fp32) rounds activations and weights by
    // up to 2^-8 each. f16 (11 bits): each token's activations are divided by a power of two so that none overflows, and are
    // then, like weights, rounded by up to 2^-11, or 2^-39 of the token's largest; weights of 512 and more become infinite.
    // Absent: packed_matmul_type().
    std::optional<DType> type;
    // What tests and measurements force.
    std::optional<MatrixBlock> block = {};
    int tile = -1;                      // of a workgroup: a row of the table; -1: chosen by the product's size
    std::optional<bool> unpacked = {};  // many tokens: slices of the weight are written as 16-bit floats before the product
    int64_t slice_bytes = 0;            // of such a slice; 0: chosen
};

// Whether the device has matrix units that can do it, and the weight's blocks are whole 32 columns.
bool has_packed_matmul(const Capabilities& device, const PackedLayer& w);
DType packed_matmul_type(const Capabilities& device);

// y = x W^T + residual. x f32, f16 or bf16 [tokens, in]; residual absent or of y's shape, and may be y; y f32 [tokens, out], or,
// `into` the columns first_column .. first_column + out - 1 of y, f32 [tokens, any]. f16 activations are multiplied as they are.
// Inference only. Errors: shapes and types; a device or weight without has_packed_matmul().
Tensor packed_matmul(Graph& g, Tensor x, const PackedLayer& w, Tensor residual = {}, const std::string& label = "packed_matmul",
                     const PackedMatmulOptions& options = {});
void packed_matmul_into(Graph& g, Tensor x, const PackedLayer& w, Tensor residual, Tensor y, int64_t first_column,
                        const std::string& label, const PackedMatmulOptions& options = {});

}  // namespace vkqat

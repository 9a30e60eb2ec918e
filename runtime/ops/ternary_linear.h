// A linear layer with ternary weights and 8-bit inputs (BitNet b1.58, arXiv 2402.17764), in integers.
//
// W[o, i] = t s, t of -1, 0, 1, one s for each row; inputs are q / a, q of -127 .. 127, one a for each token
// (quantize_activations.h). Then y = (sum of t q) s / a, and the sum is exact.
//
// On the device weights lie in tiles of 32 rows, so that neighbouring invocations have neighbouring rows and each reads 16 bytes,
// a chunk: u32 [tiles, chunks, 32 rows, 4], as digits t + 1. At 2 bits a chunk has 64 columns, the first in the lowest bits. Five
// to a byte (1.6 bits) it has 80: word w has columns 20 w .. 20 w + 19, byte b of it columns 4 b .. 4 b + 3 in the places 1, 3,
// 9, 27 and column 16 + b in the place 81. Padding is t = 0.
#pragma once

#include <string>
#include <vector>

#include "runtime/graph/graph.h"
#include "runtime/ops/packed_linear.h"

namespace vkqat {

struct TernaryLayer {
    Tensor indices;    // u32 [ternary_words()]
    Tensor scales;     // bf16 [out]
    Tensor centroids;  // f32 [parts, 4]: -s, 0, s, s; s of a row is this times its scale
    bool five_to_a_byte = false;
    int64_t in = 0;
    std::vector<int64_t> rows;  // of the one to three parts
    int64_t out() const;        // of all parts
};

// Errors: no or more than three parts; rows of `in`, which must be a multiple of 4, that are too long.
int64_t ternary_words(const std::vector<int64_t>& rows, int64_t in, bool five_to_a_byte);

// Brings rows from the layout of runtime/formats/packing.h, packed u8 [rows, in / 4] or [rows, ternary_row_bytes(in)], into the
// tiles from `first_tile` on. Each part begins with a tile of its own; the rows of a piece of a part are a multiple of 32 but for
// its last. There must be no index 3 and no byte above 242.
void tile_ternary(Graph& g, Tensor packed, const TernaryLayer& layer, int64_t first_tile);

// The same layer as packed_linear.h has it, made by nodes of the graph: for products of many tokens.
PackedLayer ternary_as_packed(Graph& g, const TernaryLayer& w);

// t of one part times the scale of each row, bf16 [rows, in]: the weight but for the part's s.
Tensor ternary_values(Graph& g, const TernaryLayer& w, size_t part, const std::string& name);

// What stands in front of the product: the norm of LinearFusion, then one without weights.
struct TernaryInput {
    bool second_norm = false;
    float second_eps = 0;
};

// What tests and measurements force.
struct TernaryVariant {
    int dot = -1;              // the device's dot product of four bytes, 1, or multiplications, 0
    int quantized = -1;        // integers made by an operation of their own, 1, or by every workgroup, 0
    MatvecTuning tuning = {};  // width, tiles, depth, copies, slab (columns)
};

// Whether the device can do it, and for how many tokens it is meant.
bool can_ternary_linear(const Capabilities& device, const TernaryLayer& w);
constexpr int64_t ternary_linear_tokens = 16;

// y = q(norms of x) W^T + residual, or silu(gate) * up. x f32 [tokens, in] -> f32 [tokens, out], or [tokens, out / 2] with
// swiglu. Inference only. Errors: x requires a gradient, or a tensor does not have its shape.
Tensor ternary_linear(Graph& g, Tensor x, const TernaryLayer& w, const std::string& label = "ternary_linear",
                      const LinearFusion& fusion = {}, const TernaryInput& input = {}, const TernaryVariant& variant = {});

// The same for many tokens on matrix units: both sides are bf16 without loss (integers of 8 bits; t times a row's scale), sums
// are fp32, and s / a comes to them at the end. Weights are unpacked part by part. x and residual as above, without SwiGLU.
// What models use for prompts on such a device; elsewhere they take ternary_as_packed().
bool has_ternary_matmul(const Capabilities& device);
Tensor ternary_matmul(Graph& g, Tensor x, const TernaryLayer& w, const std::string& label = "ternary_matmul",
                      const LinearFusion& fusion = {}, const TernaryInput& input = {});

}  // namespace vkqat

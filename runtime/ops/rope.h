// Rotary position embedding, split halves: element i of a head pairs with i + head_dim/2 (as in Hugging Face's weights).
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "runtime/graph/graph.h"

namespace vkqat {

// Llama 3's stretching of the frequencies (config.json: rope_scaling of rope_type llama3): wavelengths beyond
// original_max_position_embeddings / low_freq_factor become `factor` times as long, those below .../high_freq_factor are
// kept, those between are blended.
struct RopeStretch {
    double factor = 8, low_freq_factor = 1, high_freq_factor = 4;
    int64_t original_max_position_embeddings = 8192;
};

// Radians per position of each pair, theta^(-2i / head_dim), stretched: [head_dim / 2].
// Errors: head_dim that is odd or below 2, numbers that are not positive, factors out of order.
std::vector<float> rope_frequencies(int64_t head_dim, double theta, const std::optional<RopeStretch>& stretch = {});

// [positions, head_dim] row-major: the cosines of the pairs' angles, then their sines. The angle is the fp32 product of
// position and frequency, as the published implementations compute it; cosine and sine are exact to fp32 at any position,
// which those of GPUs are not.
std::vector<float> rope_table(std::span<const float> frequencies, int64_t positions);

// Where rows stand: position = start + row % seq_len.
struct RopePositions {
    int64_t seq_len = 0;  // rows of one sequence; 0: all rows are one
    Tensor start = {};    // u32 [1] in device memory, so that a recorded graph can go on; absent: 0
};

// x: f32 [tokens, cols], of which the first heads * head_dim columns are rotated and the others copied, so that q, k and v of
// one projection can go through together (heads = heads + kv_heads). table: f32 [positions, head_dim] of rope_table(); a
// position beyond it is taken as its last, so the caller sees to it that start stays in range. y: as x, in `type`:
// f32, f16 or bf16. Backward: rotates back; dL/dy is f32.
// Errors: shapes or types that do not fit, seq_len that does not divide the tokens or exceeds the table.
Tensor rope(Graph& g, Tensor x, Tensor table, int64_t heads, const RopePositions& positions = {}, DType type = DType::f32);

}  // namespace vkqat

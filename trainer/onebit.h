// The start of OneBit's sign matrices from trained weights, and their packed form (arXiv 2402.11295).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "trainer/parameters.h"

namespace vkqat {

// Sign-value-independent decomposition: |A| ~ output_factor input_factor^T, the leading singular pair, which for a matrix without
// negative entries is its best non-negative rank-1 approximation; the two vectors have the same length. The weight behind the
// signs starts as 0.01 sign(A).
struct OnebitStart {
    std::vector<float> input_factor;   // [in]
    std::vector<float> output_factor;  // [out]
    std::vector<float> weight;         // [out, in]
    double error = 0;                  // |A - output_factor input_factor^T sign(A)| / |A|
};
// weight A [out, in], row-major. By power iteration on the CPU, in double: what the device's is checked against. Error naming
// `layer`: a weight that is not finite, or all are 0.
OnebitStart onebit_start(std::span<const float> weight, int64_t out, int64_t in, const std::string& layer);

// The same on the device, in fp32: `weight` gives the master weight, f32 [out, in], in a graph, and is replaced there by 0.01
// sign(A); `magnitudes` has room for |A|. Rounds until the singular value changes by no more than 1e-6 of itself, in 200 at most.
// The result's `weight` stays empty. Errors as above, and then A is what it was.
OnebitStart onebit_start(Device& device, const std::function<Tensor(Graph&)>& weight, const Buffer& magnitudes,
                         const std::string& layer);

// Replaces the weights of all layers of a model with OneBit's vectors (llama_parameters: onebit) by their start, and fills the
// vectors: on the device, with room for the largest matrix once more. `line` gets a line for each layer with its error; may be
// empty. Errors as above.
void start_onebit(Device& device, ParameterStore& parameters, const std::function<void(const std::string&)>& line);

// [out, in / 8] bytes of a matrix [out, in]: 8 signs a byte, least significant bit first, 1 where the weight is negative. Error
// unless in is a multiple of 8.
std::vector<uint8_t> pack_signs(std::span<const float> weight, int64_t in);
// The inverse: -1 and 1, [out, in].
std::vector<float> unpack_signs(std::span<const uint8_t> packed, int64_t in);

}  // namespace vkqat

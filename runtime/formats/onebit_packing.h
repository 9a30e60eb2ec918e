// Packed layers of OneBit (arXiv 2402.11295): a sign matrix between two vectors, as its published checkpoints hold them.
#pragma once

#include <optional>
#include <string_view>

#include "runtime/formats/checkpoint.h"

namespace vkqat {

// y = LN(((x * input_factor) sign^T) * weight_scale), LN a layer norm over the outputs without parameters. Lives as long as the
// model's files.
struct OnebitLinear {
    int64_t out = 0, in = 0;
    const TensorView* weight = nullptr;        // i8 or u8 [out, in / 8], 8 signs a byte, least significant bit first, 1 means -1
    const TensorView* weight_scale = nullptr;  // a float type, [out]
    const TensorView* input_factor = nullptr;  // a float type, [in]
    uint64_t bytes() const { return weight->bytes.size() + weight_scale->bytes.size() + input_factor->bytes.size(); }
};

// PREFIX.weight, .weight_scale and .input_factor of a projection that should be [out, in]; nothing if the model has neither of
// the last two. Error naming the tensor if one is missing, has another shape or type, or holds a number that is not finite.
std::optional<OnebitLinear> find_onebit_linear(const ModelFiles& model, std::string_view prefix, int64_t out, int64_t in);

}  // namespace vkqat

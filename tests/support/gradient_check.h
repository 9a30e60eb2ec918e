// Gradients by finite differences, with the operation in the middle of a graph: its inputs come from an earlier operation
// and are used a second time, its output goes to two later ones, so that a lost or doubled upstream gradient is seen.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/support/gpu.h"

namespace vkqat::test {

struct GradientInput {
    std::string name;
    Shape shape;
    std::vector<float> values;
    // A parameter goes to the operation directly (weights that may only be external tensors); otherwise it passes through an
    // earlier operation first, and is used beside the operation as well.
    bool parameter = false;
};

// `build` makes the operation's output from its differentiable inputs (in order); constants are made through `Tensors`.
// Checks dL/dinput along random directions and along single elements against central differences of L = sum(c * y) + ...,
// evaluated in double from the outputs. `tolerance`: relative to the gradient's norm; `step`: relative to the input's rms.
void check_gradients(const std::vector<GradientInput>& inputs,
                     const std::function<Tensor(Graph&, Tensors&, const std::vector<Tensor>&)>& build, double tolerance = 5e-3,
                     double step = 1e-2);

}  // namespace vkqat::test

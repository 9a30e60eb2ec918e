// Residual connections.
#pragma once

#include <string>

#include "runtime/graph/graph.h"

namespace vkqat {

// y = a + b. a, b: f32 of the same shape; y likewise. Errors: shapes or types that differ.
// Backward: da = db = dy, passed on without copying where nothing else adds to them.
Tensor add(Graph& g, Tensor a, Tensor b, std::string name = "add");

}  // namespace vkqat

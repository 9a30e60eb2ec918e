#include "runtime/ops/matrix_fragments.h"

#include <algorithm>

#include "runtime/vulkan/shader_table.h"
#include "shaders/args/matrix_fragments.h"

namespace vkqat {
namespace {

constexpr uint32_t nvidia = 0x10de;

bool has_shape(const Capabilities& c) {
    return c.subgroup_size == 32 && find_shader("matrix_fragments") &&
           std::any_of(c.cooperative_matrices.begin(), c.cooperative_matrices.end(), [](const CooperativeMatrixShape& s) {
               return s.m == 16 && s.n == 8 && s.k == 16 && s.input == DType::f16 && s.accumulator == DType::f32;
           });
}

}  // namespace

bool known_matrix_fragments(const Capabilities& device) { return device.vendor_id == nvidia && has_shape(device); }

Tensor matrix_fragments(Graph& g) {
    if (!has_shape(g.capabilities())) fail("matrix_fragments: {} has no matrices of 16 x 8 x 16", g.capabilities().name);
    Tensor numbers = g.tensor({32, 16}, DType::f32, "matrix_fragments");
    g.dispatch(Kernel{"matrix_fragments", {32}}, {out(numbers)}, MatrixFragmentsArgs{}, linear_grid(1), "matrix_fragments");
    return numbers;
}

}  // namespace vkqat

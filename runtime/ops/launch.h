// How operations cover rows and elements with workgroups; the shaders' side is shaders/ops/row_blocks.glsl and row_reduce.glsl.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>

#include "runtime/graph/graph.h"

namespace vkqat {

// A size as a shader takes it. Error unless 1 .. 2^31 - 1; `what` names it ("rms_norm: rows of x").
inline uint32_t count32(int64_t count, std::string_view what) {
    if (count < 1 || count > std::numeric_limits<int32_t>::max())
        fail("{}: expected 1 to {}, found {}", what, std::numeric_limits<int32_t>::max(), count);
    return uint32_t(count);
}

// Whether a tensor's address is a multiple of `alignment`; memory that the plan assigns starts at multiples of 256.
inline bool aligned(const Graph& g, Tensor t, uint64_t alignment) {
    const Graph::TensorInfo& info = g.info(t);
    return (g.storages()[info.storage].address + info.offset) % alignment == 0;
}

// The shader of an operation that has one for each floating-point type: "embedding" and bf16 make "embedding_bf16".
inline std::string typed_shader(std::string_view shader, Tensor of, std::string_view what) {
    if (!of || !is_float(of.dtype())) fail("{}: expected f32, f16 or bf16, found {}", what, of ? name(of.dtype()) : "no tensor");
    return fmt::format("{}_{}", shader, name(of.dtype()));
}

// Elementwise work: a workgroup covers a block of columns of one row, each invocation up to 4 columns, a width apart.
// Specialization constant 1 says how vectors are loaded (shaders/lanes.glsl), 2 is the number of columns of an invocation.
struct RowBlocks {
    static constexpr uint32_t width = 64;  // a multiple of every subgroup size
    uint32_t uniform_loads, steps;
    Grid grid;
    Kernel kernel(std::string shader, std::initializer_list<uint32_t> constants = {}) const {
        Kernel k{std::move(shader), {width, uniform_loads, steps}};
        k.constants.insert(k.constants.end(), constants);
        return k;
    }
};
inline RowBlocks row_blocks(const Capabilities& c, int64_t rows, int64_t cols) {
    int64_t steps = std::clamp<int64_t>((cols + RowBlocks::width - 1) / RowBlocks::width, 1, 4), span = steps * RowBlocks::width;
    return {c.uniform_loads() && cols % 8 == 0, uint32_t(steps), linear_grid(rows * ((cols + span - 1) / span))};
}

// Work with a sum over each row: a workgroup has one row. Its subgroups, specialization constant 2, are more than one only
// for long rows and where a barrier is cheap.
inline Kernel row_kernel(const Capabilities& c, std::string shader, int64_t cols) {
    uint32_t size = c.subgroup_size, most = std::max(1u, std::min(256u, c.max_workgroup_invocations) / size);
    auto subgroups = uint32_t(std::clamp<int64_t>(cols / (4 * size), 1, c.quirks.barriers_are_slow ? 1 : most));
    return {std::move(shader), {size * subgroups, c.uniform_loads() && cols % 8 == 0, subgroups}};
}

}  // namespace vkqat

#include "runtime/ops/read_all.h"

#include <algorithm>

#include "runtime/ops/launch.h"
#include "shaders/args/read_all.h"

namespace vkqat {

Tensor read_all(Graph& g, Tensor t) {
    if (!t) fail("read_all: the tensor is absent");
    if (t.bytes() % 16 != 0 || !aligned(g, t, 16))
        fail("read_all: '{}' has {} bytes; expected whole vectors of 16, at a multiple of 16", t.name(), t.bytes());
    const Capabilities& c = g.capabilities();
    constexpr int64_t width = 256, loads = 8;
    const uint32_t count = count32(int64_t(t.bytes() / 16), "read_all: vectors of 16 bytes");
    // Many more workgroups than run at once, so that fast processors take more of them.
    const int64_t workgroups = std::min<int64_t>((int64_t(count) + width * loads - 1) / (width * loads), 4096);
    Tensor seen = g.tensor({workgroups * (width / int64_t(c.subgroup_size))}, DType::u32, "seen");
    g.dispatch(Kernel{"read_all", {uint32_t(width)}}, {in(t), out(seen)}, ReadAllArgs{.count = count}, Grid{uint32_t(workgroups)},
               "read_all");
    return seen;
}

}  // namespace vkqat

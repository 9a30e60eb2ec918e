#include "runtime/ops/random.h"

#include "runtime/ops/launch.h"
#include "shaders/args/random.h"

namespace vkqat {

void random_fill(Graph& g, Tensor t, uint32_t seed, float low, float high) {
    if (!t) fail("random_fill: the tensor is absent");
    if (t.bytes() % 16) fail("random_fill: '{}' has {} bytes, expected a multiple of 16", t.name(), t.bytes());
    std::string shader = t.dtype() == DType::u32 ? "random_u32" : typed_shader("random", t, "random_fill");
    uint32_t chunks = count32(int64_t(t.bytes() / 16), "random_fill: chunks of 16 bytes");
    g.dispatch(Kernel{shader, {64}}, {out(t)}, RandomArgs{.chunks = chunks, .seed = seed, .low = low, .high = high},
               linear_grid((int64_t(chunks) + 63) / 64), "random");
}

}  // namespace vkqat

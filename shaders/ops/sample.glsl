// What the sampler's kernels share.
#include "common.glsl"
#include "args/sample.h"
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer Parameters { SamplerParameters p; };
const uint SAMPLER_BYTES = 32;

// An unsigned number with the order of the float.
uint order_key(float x) {
    const uint u = floatBitsToUint(x);
    return (u & 0x80000000u) != 0 ? ~u : u | 0x80000000u;
}
float from_order_key(uint key) { return uintBitsToFloat((key & 0x80000000u) != 0 ? key ^ 0x80000000u : ~key); }

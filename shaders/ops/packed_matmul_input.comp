#version 460
//! variant packed_matmul_input_f32 X=f32 X_BYTES=4
//! variant packed_matmul_input_bf16 X=bf16 X_BYTES=2
// x as f16 for products on matrix units: each row divided by the power of two that leaves its largest value between 2^14 and
// 2^15. `factors` gives it back, less the factor that the weights have (packed_matmul_coopmat.comp). A workgroup per row.
#include "common.glsl"
#include "args/packed_matmul.h"
layout(push_constant, scalar) uniform Push { PackedMatmulInputArgs a; };
layout(constant_id = 1) const uint SUBGROUPS = 1;
shared float largest[SUBGROUPS];

void main() {
    const uint row = workgroup_index();
    uint64_t x = a.x + uint64_t(row) * a.cols * (X_BYTES);
    F16 scaled = F16(a.scaled + uint64_t(row) * a.cols * 2);
    float most = 0;
    // Four columns at a time where rows are whole vectors of them: this pass is bound by memory.
    const bool vectors = X_BYTES == 4 && a.cols % 4 == 0 && a.x % 16 == 0 && a.scaled % 8 == 0;
    const uint end = vectors ? a.cols / 4 : a.cols;
    for (uint i = gl_LocalInvocationIndex; i < end; i += gl_WorkGroupSize.x) {
        if (vectors) {
            const vec4 v = abs(F32x4(x).v[i]);
            most = max(most, max(max(v.x, v.y), max(v.z, v.w)));
        } else {
            most = max(most, abs(LOAD(X, x, i)));
        }
    }
    most = subgroupMax(most);
    if (SUBGROUPS > 1) {
        if (subgroupElect()) largest[gl_SubgroupID] = most;
        barrier();
        most = largest[gl_SubgroupID];
        for (uint i = 0; i < SUBGROUPS; ++i) most = max(most, largest[i]);
    }
    // Beyond the range that the factor itself can have, the row keeps that of its end.
    const int exponent = clamp(int(floatBitsToUint(most) >> 23) - 127, -90, 127) - 14;
    const float factor = most == 0 ? 1.0 : uintBitsToFloat(uint(127 + exponent) << 23);
    const float inverse = most == 0 ? 1.0 : uintBitsToFloat(uint(127 - exponent) << 23);
    for (uint i = gl_LocalInvocationIndex; i < end; i += gl_WorkGroupSize.x) {
        if (vectors) {
            const vec4 v = F32x4(x).v[i] * inverse;
            U32x2(a.scaled + uint64_t(row) * a.cols * 2).v[i] = uvec2(packFloat2x16(f16vec2(v.xy)), packFloat2x16(f16vec2(v.zw)));
        } else {
            scaled.v[i] = float16_t(LOAD(X, x, i) * inverse);
        }
    }
    if (gl_LocalInvocationIndex == 0) F32(a.factors).v[row] = factor / 128.0;
}

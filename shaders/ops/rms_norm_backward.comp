#version 460
//! variant rms_norm_backward_f32 WEIGHT=f32
//! variant rms_norm_backward_f16 WEIGHT=f16
//! variant rms_norm_backward_bf16 WEIGHT=bf16
#include "common.glsl"
#include "args/rms_norm.h"
#include "ops/row_sum.glsl"
layout(push_constant, scalar) uniform Push { RmsNormBackwardArgs a; };

// With r = inv_rms and n = w * dy: dx = r n - x r^3 mean(n x).
void main() {
    uint row = workgroup_index(), first = gl_LocalInvocationIndex;
    if (row >= a.rows) return;
    uint64_t offset = uint64_t(row) * a.dim * 4;
    F32 x = F32(a.x + offset), dy = F32(a.dy + offset), base = F32(a.base + offset), dx = F32(a.dx + offset);
    float r = F32(a.inv_rms).v[row], sum = 0;
    for (uint i = first; i < a.dim; i += gl_WorkGroupSize.x) sum += dy.v[i] * LOAD(WEIGHT, a.weight, i) * x.v[i];
    float c = sum_over_row(sum) / float(a.dim) * r * r * r;
    for (uint i = first; i < a.dim; i += gl_WorkGroupSize.x) {
        float value = r * dy.v[i] * LOAD(WEIGHT, a.weight, i) - c * x.v[i];
        if (a.base != 0) value += base.v[i];
        dx.v[i] = value;
    }
}

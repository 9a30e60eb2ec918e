#version 460
//! variant rms_norm_f32 WEIGHT=f32
//! variant rms_norm_f16 WEIGHT=f16
//! variant rms_norm_bf16 WEIGHT=bf16
#include "common.glsl"
#include "args/rms_norm.h"
#include "ops/row_sum.glsl"
layout(push_constant, scalar) uniform Push { RmsNormArgs a; };

void main() {
    uint row = workgroup_index(), first = gl_LocalInvocationIndex;
    if (row >= a.rows) return;
    uint64_t offset = uint64_t(row) * a.dim * 4;
    F32 x = F32(a.x + offset), y = F32(a.y + offset);
    float sum = 0;
    for (uint i = first; i < a.dim; i += gl_WorkGroupSize.x) sum += x.v[i] * x.v[i];
    float inv_rms = 1 / sqrt(sum_over_row(sum) / float(a.dim) + a.eps);
    for (uint i = first; i < a.dim; i += gl_WorkGroupSize.x) y.v[i] = x.v[i] * inv_rms * LOAD(WEIGHT, a.weight, i);
    if (a.inv_rms != 0 && first == 0) F32(a.inv_rms).v[row] = inv_rms;
}

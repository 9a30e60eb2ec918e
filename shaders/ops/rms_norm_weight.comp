#version 460
//! variant rms_norm_weight
#include "common.glsl"
#include "args/rms_norm.h"
layout(push_constant, scalar) uniform Push { RmsNormWeightArgs a; };

void main() {
    uint i = invocation_index();
    if (i >= a.dim) return;
    float sum = 0;
    for (uint c = 0; c < a.chunks; c++) sum += F32(a.partial + uint64_t(c) * a.dim * 4).v[i];
    if (a.base != 0) sum += F32(a.base).v[i];
    F32(a.d_weight).v[i] = sum;
}

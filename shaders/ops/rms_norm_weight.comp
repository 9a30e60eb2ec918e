#version 460
//! variant rms_norm_weight
#include "common.glsl"
#include "args/rms_norm.h"
layout(push_constant, scalar) uniform Push { RmsNormWeightArgs a; };

const uint AT_ONCE = 8;  // loads on their way

void main() {
    uint i = invocation_index();
    if (i >= a.dim) return;
    float sum = 0;
    uint chunk = 0;
    do {
        [[unroll]] for (uint k = 0; k < AT_ONCE; k++) {
            float value = F32(a.partial + uint64_t(min(chunk + k, a.chunks - 1)) * a.dim * 4).v[i];
            sum += chunk + k < a.chunks ? value : 0.0;
        }
        chunk += AT_ONCE;
    } while (chunk < a.chunks);
    if (a.base != 0) sum += F32(a.base).v[i];
    F32(a.d_weight).v[i] = sum;
}

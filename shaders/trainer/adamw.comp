#version 460
//! variant adamw
// Decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), in the order of PyTorch's AdamW.
#include "common.glsl"
#include "args/adamw.h"
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer Settings { AdamwSettings v; };
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer State { AdamwState v; };
layout(push_constant, scalar) uniform Push { AdamwArgs a; };

const uint AT_ONCE = 4;  // elements of an invocation, a workgroup's width apart: their loads are under way together

void main() {
    const AdamwSettings h = Settings(a.settings).v;
    const AdamwState s = State(a.state).v;
    const uint first = workgroup_index() * (gl_WorkGroupSize.x * AT_ONCE) + gl_LocalInvocationIndex;
    if (first >= a.count || s.skip != 0) return;
    float w[AT_ONCE], g[AT_ONCE], m[AT_ONCE], v[AT_ONCE];
    [[unroll]] for (uint k = 0; k < AT_ONCE; ++k) {
        const uint i = min(first + k * gl_WorkGroupSize.x, a.count - 1);
        w[k] = F32(a.weight).v[i];
        g[k] = F32(a.gradient).v[i];
        m[k] = F32(a.m).v[i];
        v[k] = F32(a.v).v[i];
    }
    [[unroll]] for (uint k = 0; k < AT_ONCE; ++k) {
        const uint i = first + k * gl_WorkGroupSize.x;
        const float gradient = g[k] * s.clip;
        m[k] = h.beta1 * m[k] + (1 - h.beta1) * gradient;
        v[k] = h.beta2 * v[k] + (1 - h.beta2) * gradient * gradient;
        w[k] -= h.learning_rate * h.weight_decay * w[k];
        const float denominator = sqrt(v[k]) / sqrt(1 - s.beta2_power) + h.eps;
        w[k] -= h.learning_rate / (1 - s.beta1_power) * m[k] / denominator;
        if (i < a.count) {
            F32(a.m).v[i] = m[k];
            F32(a.v).v[i] = v[k];
            F32(a.weight).v[i] = w[k];
        }
    }
}

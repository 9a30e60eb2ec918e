#version 460
//! variant adamw
// Decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), in the order of PyTorch's AdamW.
#include "common.glsl"
#include "args/adamw.h"
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer Settings { AdamwSettings v; };
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer State { AdamwState v; };
layout(push_constant, scalar) uniform Push { AdamwArgs a; };

void main() {
    uint i = invocation_index();
    AdamwSettings h = Settings(a.settings).v;
    AdamwState s = State(a.state).v;
    if (i >= a.count || s.skip != 0) return;
    float g = F32(a.gradient).v[i] * s.clip;
    float m = h.beta1 * F32(a.m).v[i] + (1 - h.beta1) * g;
    float v = h.beta2 * F32(a.v).v[i] + (1 - h.beta2) * g * g;
    F32(a.m).v[i] = m;
    F32(a.v).v[i] = v;
    float w = F32(a.weight).v[i];
    w -= h.learning_rate * h.weight_decay * w;
    float denominator = sqrt(v) / sqrt(1 - s.beta2_power) + h.eps;
    F32(a.weight).v[i] = w - h.learning_rate / (1 - s.beta1_power) * m / denominator;
}

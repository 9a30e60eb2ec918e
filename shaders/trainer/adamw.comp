#version 460
//! variant adamw_f32 MOMENT=f32
//! variant adamw_bf16 MOMENT=bf16
// Decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), in the order of PyTorch's AdamW. Moments in bf16 are rounded up or
// down by chance, with the probability that leaves their mean, so that small updates count; the weight sees them before.
#include "common.glsl"
#include "args/adamw.h"
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer Settings { AdamwSettings v; };
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer State { AdamwState v; };
layout(push_constant, scalar) uniform Push { AdamwArgs a; };

const uint AT_ONCE = 4;  // elements of an invocation, a workgroup's width apart: their loads are under way together

// To bf16, up with the probability of what is cut off. The numbers depend on the element and the step only.
uint16_t rounded_by_chance(float x, uint element, uint step, uint array) {
    uint h = element * 0x9e3779b9u ^ (step * 2 + array) * 0x85ebca6bu;  // then the finalizer of MurmurHash3
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    h ^= h >> 16;
    return uint16_t((floatBitsToUint(x) + (h & 0xffffu)) >> 16);  // finite: a step that is not is left out
}
#define store_moment_f32(base, i, x, element, step, array) store_f32(base, i, x)
#define store_moment_bf16(base, i, x, element, step, array) U16(base).v[i] = rounded_by_chance(x, element, step, array)

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
        m[k] = LOAD(MOMENT, a.m, i);
        v[k] = LOAD(MOMENT, a.v, i);
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
            CONCAT(store_moment_, MOMENT)(a.m, i, m[k], a.first + i, s.step, 0);
            CONCAT(store_moment_, MOMENT)(a.v, i, v[k], a.first + i, s.step, 1);
            F32(a.weight).v[i] = w[k];
        }
    }
}

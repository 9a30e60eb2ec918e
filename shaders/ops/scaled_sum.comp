#version 460
//! variant scaled_sum
// One subgroup sums everything in a fixed order: for arrays of some thousand elements.
#include "common.glsl"
#include "args/cross_entropy.h"
layout(push_constant, scalar) uniform Push { ScaledSumArgs a; };

void main() {
    float sum = 0;
    for (uint i = gl_SubgroupInvocationID; i < a.count; i += gl_WorkGroupSize.x) sum += F32(a.values).v[i];
    sum = subgroupAdd(sum);
    if (gl_SubgroupInvocationID == 0) {
        // A uniform load behind a condition runs on lavapipe all the same: its address must be valid.
        bool has_base = a.base != 0;
        float base = F32(has_base ? a.base : a.scale).v[0];
        base = has_base ? base : 0.0;
        F32(a.sum).v[0] = base + F32(a.scale).v[0] * sum;
    }
}

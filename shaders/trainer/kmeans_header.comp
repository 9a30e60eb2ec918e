#version 460
//! variant kmeans_header
// One subgroup.
#include "common.glsl"
#include "args/kmeans.h"
#include "trainer/kmeans.glsl"
layout(push_constant, scalar) uniform Push { KmeansHeaderArgs a; };

void main() {
    uint lane = gl_SubgroupInvocationID;
    vec3 total = vec3(0);
    for (uint row = lane; row < a.out_rows; row += gl_WorkGroupSize.x) {
        F32 sums = F32(a.sums + uint64_t(row) * 12);
        total += vec3(sums.v[0], sums.v[1], sums.v[2]);
    }
    total = vec3(subgroupAdd(total.x), subgroupAdd(total.y), subgroupAdd(total.z));
    if (lane != 0) return;
    float mean = total.x / a.elements, correction = F32(a.scalars).v[0];
    float factor = correction / max(total.y / a.elements * correction, 1e-12);
    bool fine = total.z == 0.0 && is_finite(mean) && (a.weighted == 0 || is_finite(factor));
    F32(a.header).v[0] = mean > 0.0 ? mean : 1.0;
    F32(a.header).v[1] = fine ? 1.0 : 0.0;
    F32(a.header).v[2] = factor;
    F32(a.header).v[3] = 0.0;
}

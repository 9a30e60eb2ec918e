#version 460
//! variant kmeans_select
// One subgroup.
#include "common.glsl"
#include "args/kmeans.h"
#include "trainer/kmeans.glsl"
layout(push_constant, scalar) uniform Push { KmeansSelectArgs a; };

void main() {
    uint lane = gl_SubgroupInvocationID, best = 0;
    F32 candidates = F32(a.candidates);
    float least = candidates.v[0];
    uint r = 1;
    do {  // at least two restarts
        float error = candidates.v[r * (a.levels + 1)];
        if (error < least) {
            least = error;
            best = r;
        }
        r++;
    } while (r < a.restarts);
    if (F32(a.header).v[1] == 0.0 || !(least < 3.3e38)) return;
    for (uint i = lane; i < a.levels; i += gl_WorkGroupSize.x)
        F32(a.centroids).v[i] = candidates.v[best * (a.levels + 1) + 1 + i];
}

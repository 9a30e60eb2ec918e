#version 460
//! variant kmeans_sums
// One subgroup per row.
#include "common.glsl"
#include "args/kmeans.h"
#include "trainer/kmeans.glsl"
layout(push_constant, scalar) uniform Push { KmeansSumsArgs a; };

void main() {
    uint row = workgroup_index(), lane = gl_SubgroupInvocationID;
    if (row >= a.out_rows) return;
    F32 weight = F32(a.weight + uint64_t(row) * a.cols * 4), moment = F32(a.second_moment + uint64_t(row) * a.cols * 4);
    vec3 total = vec3(0);
    for (uint c0 = lane; c0 < a.cols; c0 += 32 * gl_WorkGroupSize.x) {  // sums of sums
        vec3 part = vec3(0);
        uint stop = min(c0 + 32 * gl_WorkGroupSize.x, a.cols);
        for (uint c = c0; c < stop; c += gl_WorkGroupSize.x) {
            float x = weight.v[c] / F32(a.scales).v[block_of(row, c, a.cols, a.block_rows, a.block_cols)];
            bool fine = is_finite(x);
            if (fine) part.x += abs(x);
            if (a.second_moment != 0) {
                float v = moment.v[c];
                fine = fine && is_finite(v) && v >= 0.0;
                part.y += v;
            }
            if (!fine) part.z += 1.0;
        }
        total += part;
    }
    total = vec3(subgroupAdd(total.x), subgroupAdd(total.y), subgroupAdd(total.z));
    if (lane != 0) return;
    F32 sums = F32(a.sums + uint64_t(row) * 12);
    sums.v[0] = total.x;
    sums.v[1] = total.y;
    sums.v[2] = total.z;
}

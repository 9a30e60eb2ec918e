#version 460
//! variant sum_squares
#include "common.glsl"
#include "args/adamw.h"
layout(push_constant, scalar) uniform Push { SumSquaresArgs a; };

void main() {
    uint chunk = workgroup_index();
    uint begin = chunk * a.chunk;
    if (begin >= a.count) return;
    uint end = min(begin + a.chunk, a.count);
    float sum = 0;
    for (uint i = begin + gl_SubgroupInvocationID; i < end; i += gl_WorkGroupSize.x) {
        float x = F32(a.x).v[i];
        sum += x * x;
    }
    sum = subgroupAdd(sum);
    if (gl_SubgroupInvocationID == 0) F32(a.partial).v[chunk] = sum;
}

#version 460
//! variant read_all
// Nothing but reading: a word for each subgroup, the XOR of all words that it has read. Blocks of LOADS vectors of each invocation go
// round the workgroups.
#include "common.glsl"
#include "args/read_all.h"
layout(push_constant, scalar) uniform Push { ReadAllArgs a; };
const uint WIDTH = gl_WorkGroupSize.x, LOADS = 8;

void main() {
    uvec4 seen = uvec4(0);
    for (uint first = gl_WorkGroupID.x * (LOADS * WIDTH); first < a.count; first += gl_NumWorkGroups.x * (LOADS * WIDTH)) {
        uvec4 v[LOADS];
        [[unroll]] for (uint k = 0; k < LOADS; k++)
            v[k] = U32x4(a.from).v[min(first + k * WIDTH + gl_LocalInvocationIndex, a.count - 1)];
        [[unroll]] for (uint k = 0; k < LOADS; k++)
            seen ^= first + k * WIDTH + gl_LocalInvocationIndex < a.count ? v[k] : uvec4(0);
    }
    const uint all = subgroupXor(seen.x ^ seen.y ^ seen.z ^ seen.w);
    if (subgroupElect()) U32(a.seen).v[gl_WorkGroupID.x * gl_NumSubgroups + gl_SubgroupID] = all;
}

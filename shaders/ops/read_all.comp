#version 460
//! variant read_all
// Nothing but reading: a word for each subgroup, the XOR of all words that it has read. Workgroups take blocks of LOADS vectors for
// each invocation by turns.
#include "common.glsl"
#include "args/read_all.h"
layout(push_constant, scalar) uniform Push { ReadAllArgs a; };
const uint WIDTH = gl_WorkGroupSize.x, LOADS = 8;

void main() {
    uvec4 seen = uvec4(0);
    for (uint first = gl_WorkGroupID.x * (LOADS * WIDTH); first < a.count; first += gl_NumWorkGroups.x * (LOADS * WIDTH)) {
        U32x4 from = U32x4(a.from + uint64_t(first) * 16);
        const uint left = a.count - first;
        uvec4 v[LOADS];
        [[unroll]] for (uint k = 0; k < LOADS; k++) v[k] = from.v[min(k * WIDTH + gl_LocalInvocationIndex, left - 1)];
        [[unroll]] for (uint k = 0; k < LOADS; k++) seen ^= k * WIDTH + gl_LocalInvocationIndex < left ? v[k] : uvec4(0);
    }
    const uint all = subgroupXor(seen.x ^ seen.y ^ seen.z ^ seen.w);
    if (subgroupElect()) U32(a.seen).v[gl_WorkGroupID.x * gl_NumSubgroups + gl_SubgroupID] = all;
}

#version 460
//! variant quantize_scales
// One subgroup per block.
#include "common.glsl"
#include "args/quantize.h"
#include "trainer/divide.glsl"
#include "trainer/quantize_scale.glsl"
layout(push_constant, scalar) uniform Push { QuantizeScalesArgs a; };

void main() {
    uint block = workgroup_index(), lane = gl_SubgroupInvocationID;
    if (block >= a.blocks) return;
    vec2 joined = vec2(0);
    for (uint part = lane; part < a.parts; part += gl_WorkGroupSize.x) {
        F32 p = F32(a.partials + (uint64_t(block) * a.parts + part) * 8);
        joined.x = join(joined.x, p.v[0]);
        joined.y += p.v[1];
    }
    joined = vec2(join_subgroup(joined.x), subgroupAdd(joined.y));
    float elements = float(a.block_elements), scale = scale_of(joined.x, elements);
    if (lane != 0) return;
    F32(a.statistics).v[2 * block] = scale;
    F32(a.statistics).v[2 * block + 1] = divide(joined.y, elements);
    if (a.scales != 0) F32(a.scales).v[block] = scale;
}

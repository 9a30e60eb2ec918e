#version 460
//! variant block_sums
// A subgroup for each block.
#include "common.glsl"
#include "lanes.glsl"
#include "args/block_sums.h"
layout(push_constant, scalar) uniform Push { BlockSumsArgs a; };
layout(constant_id = 2) const bool whole_steps = false;  // subgroups divide a block

void main() {
    init_lanes();
    uint block = workgroup_index();
    if (block >= a.blocks) return;
    uint64_t x = a.x + uint64_t(block) * a.size * 4;
    float sum = 0.0;
    uint i = 0;
    do {
        if (whole_steps) {
            sum += lanes_f32(x + uint64_t(i) * 4);
        } else {
            float value = F32(x).v[min(i + lane, a.size - 1)];
            sum += i + lane < a.size ? value : 0.0;
        }
        i += LANES;
    } while (i < a.size);
    sum = subgroupAdd(sum);
    if (subgroupElect()) F32(a.y).v[block] = sum;
}

#version 460
//! variant gram_blocks
// One subgroup for each row of each block's matrix.
#include "common.glsl"
#include "lanes.glsl"
#include "args/clipping.h"
layout(push_constant, scalar) uniform Push { GramBlocksArgs a; };

void main() {
    init_lanes();
    uint row = workgroup_index(), block = row / a.group, j = row - block * a.group;
    if (row >= a.cols) return;
    F32 gram = F32(a.gram + uint64_t(row) * a.group * 4);
    uint c = 0;
    do {
        uint i = min(c + lane, a.group - 1), t = 0;
        float sum = 0;
        do {  // sums of sums
            uint stop = min(t + 64, a.tokens);
            float part = 0;
            do {
                F32 x = F32(a.x + (uint64_t(t) * a.cols + block * a.group) * 4);
                part += x.v[i] * x.v[j];
                t++;
            } while (t < stop);
            sum += part;
        } while (t < a.tokens);
        if (c + lane < a.group) gram.v[c + lane] = sum;
        c += LANES;
    } while (c < a.group);
}

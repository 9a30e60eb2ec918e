#version 460
//! variant token_scales
// One subgroup for each sequence.
#include "common.glsl"
#include "args/distillation.h"
layout(push_constant, scalar) uniform Push { TokenScalesArgs a; };

void main() {
    uint sequence = workgroup_index(), lane = gl_SubgroupInvocationID, width = gl_WorkGroupSize.x;
    if (sequence >= a.sequences) return;
    F32 losses = F32(a.losses + uint64_t(sequence) * a.seq_len * 4), weights = F32(a.weights + uint64_t(sequence) * a.seq_len * 4);
    float highest = -1.0 / 0.0, sum = 0;
    for (uint i = lane; i < a.seq_len; i += width) highest = max(highest, losses.v[i] / a.temperature);
    highest = subgroupMax(highest);
    for (uint i = lane; i < a.seq_len; i += width) sum += exp(losses.v[i] / a.temperature - highest);
    sum = subgroupAdd(sum);
    for (uint i = lane; i < a.seq_len; i += width) weights.v[i] = exp(losses.v[i] / a.temperature - highest) / sum;
}

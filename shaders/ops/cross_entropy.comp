#version 460
//! variant cross_entropy
// One subgroup (the whole workgroup) for each row: a pass for the maximum, one for the sum of exponentials, one for the gradient.
#include "common.glsl"
#include "args/cross_entropy.h"
layout(push_constant, scalar) uniform Push { CrossEntropyArgs a; };

void main() {
    uint row = workgroup_index();
    if (row >= a.rows) return;
    uint lane = gl_SubgroupInvocationID, width = gl_WorkGroupSize.x;
    uint64_t logits = a.logits + uint64_t(row) * a.vocab * 4;
    int label = I32(a.labels).v[row];
    bool counts = label >= 0 && label < int(a.vocab);

    float highest = -1.0 / 0.0;
    for (uint i = lane; i < a.vocab; i += width) highest = max(highest, F32(logits).v[i]);
    highest = subgroupMax(highest);
    float sum = 0;
    for (uint i = lane; i < a.vocab; i += width) sum += exp(F32(logits).v[i] - highest);
    sum = subgroupAdd(sum);
    if (lane == 0)
        F32(a.loss).v[row] = counts ? log(sum) + highest - F32(logits).v[max(label, 0)] : 0.0;
    if (a.gradient == 0) return;
    // The other lanes' reads of the label's logit must come before it is replaced.
    subgroupMemoryBarrierBuffer();
    subgroupBarrier();
    float scale = counts ? F32(a.scale).v[0] : 0.0;
    float factor = scale / sum;
    for (uint i = lane; i < a.vocab; i += width) {
        float p = exp(F32(logits).v[i] - highest) * factor;
        F32(logits).v[i] = counts ? p - (i == uint(label) ? scale : 0.0) : 0.0;
    }
}

#version 460
//! variant token_scores
// One subgroup (the whole workgroup) for each row: a pass for the largest logit and where it stands, one for the sum of
// exponentials.
#include "common.glsl"
#include "args/token_scores.h"
layout(push_constant, scalar) uniform Push { TokenScoresArgs a; };

void main() {
    const uint row = workgroup_index();
    if (row >= a.rows) return;
    const uint lane = gl_SubgroupInvocationID, width = gl_WorkGroupSize.x;
    F32 logits = F32(a.logits + uint64_t(row) * a.vocab * 4);
    const int label = I32(a.labels).v[row];
    const bool counts = label >= 0 && label < int(a.vocab);

    float own = -1.0 / 0.0;
    uint where = a.vocab;
    for (uint i = lane; i < a.vocab; i += width) {
        const float x = logits.v[i];
        where = x > own ? i : where;
        own = max(own, x);
    }
    const float highest = subgroupMax(own);
    const uint best = subgroupMin(own == highest ? where : a.vocab);
    float sum = 0;
    for (uint i = lane; i < a.vocab; i += width) sum += exp(logits.v[i] - highest);
    sum = subgroupAdd(sum);
    if (lane == 0) {
        F32(a.nll).v[row] = counts ? log(sum) + highest - logits.v[clamp(label, 0, int(a.vocab) - 1)] : 0.0;
        I32(a.best).v[row] = counts ? int(best) : -1;
    }
}

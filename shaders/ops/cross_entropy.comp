#version 460
//! variant cross_entropy_f32 TYPE=f32
//! variant cross_entropy_f16 TYPE=f16
//! variant cross_entropy_bf16 TYPE=bf16
// A workgroup for each row: one pass for maximum and sum of exponentials together, one for the gradient.
#include "common.glsl"
#include "args/cross_entropy.h"
#include "ops/columns.glsl"
layout(constant_id = 2) const uint SUBGROUPS = 1;
layout(push_constant, scalar) uniform Push { CrossEntropyArgs a; };

shared vec3 parts[64];  // of a subgroup: maximum, sum of exponentials relative to it, the label's logit

void main() {
    init_lanes();
    const uint row = workgroup_index(), first = first_column();
    if (row >= a.rows) return;
    const uint64_t logits = a.logits + uint64_t(row) * a.vocab * 4;
    const int label = I32(a.labels).v[row];
    const bool counts = label >= 0 && label < int(a.vocab);

    const float lowest = -3e38;
    float highest = lowest, sum = 0, target = 0;
    uint place = first;
    if (place < a.vocab) {
        do {
            const uint i = own_column(place);
            const float x = load_column_f32(logits, place, a.vocab);
            const float before = highest;
            if (i < a.vocab) {
                highest = max(highest, x);
                sum = sum * exp(before - highest) + exp(x - highest);
                if (i == uint(label)) target = x;
            }
            place += gl_WorkGroupSize.x;
        } while (place < a.vocab);
    }
    float top = subgroupMax(highest);
    sum = subgroupAdd(sum * exp(highest - top));
    target = subgroupAdd(target);
    if (SUBGROUPS > 1) {
        if (subgroupElect()) parts[gl_SubgroupID] = vec3(top, sum, target);
        barrier();
        const float own = top;
        top = parts[0].x;
        for (uint s = 1; s < SUBGROUPS; ++s) top = max(top, parts[s].x);
        sum = target = 0;
        for (uint s = 0; s < SUBGROUPS; ++s) {
            sum += parts[s].y * exp(parts[s].x - top);
            target += parts[s].z;
        }
    }
    if (gl_LocalInvocationIndex == 0) F32(a.loss).v[row] = counts ? log(sum) + top - target : 0.0;
    if (a.gradient == 0) return;
    const float scale = counts ? F32(a.scale).v[0] : 0.0, factor = scale / sum;
    const uint64_t gradient = AT(TYPE, a.gradient, uint64_t(row) * a.vocab);
    place = first;
    if (place < a.vocab) {
        do {
            const uint i = own_column(place);
            const float p = exp(load_column_f32(logits, place, a.vocab) - top) * factor;
            if (i < a.vocab) STORE(TYPE, gradient, i, counts ? p - (i == uint(label) ? scale : 0.0) : 0.0);
            place += gl_WorkGroupSize.x;
        } while (place < a.vocab);
    }
}

#version 460
//! variant distillation
// With log probabilities ls, lt: forward F = sum q (lt - ls), dF = p - q; reverse R = sum p (ls - lt), dR = p (ls - lt - R).
// MIX: gamma R + (1 - gamma) F. JSD: m = beta q + (1 - beta) p, J = sum beta q (lt - lm) + (1 - beta) p (ls - lm),
// dJ = (1 - beta) p (ls - lm - sum p (ls - lm)). SOFT: weight * sum -q ls.
#include "common.glsl"
#include "args/distillation.h"
#define SLOTS 8
#include "ops/row_reduce.glsl"
layout(constant_id = 3) const uint mode = 0;
const uint MIX = 0, JSD = 1, SOFT = 2;
layout(push_constant, scalar) uniform Push { DistillationArgs a; };

void main() {
    init_lanes();
    uint row = workgroup_index(), start = first_column(), i = start, width = gl_WorkGroupSize.x, n = a.vocab;
    if (row >= a.rows) return;
    uint64_t student = a.student + uint64_t(row) * n * 4, teacher = a.teacher + uint64_t(row) * n * 4;
    int label = I32(a.labels).v[row];
    bool counts = label >= 0 && label < int(n);
    float beta = F32(a.factors).v[2];

    const float lowest = -1.0 / 0.0;
    vec2 highest = vec2(lowest);
    if (i < n) {
        do {
            highest = max(highest, vec2(load_column_f32(student, i, n), load_column_f32(teacher, i, n)));
            i += width;
        } while (i < n);
    }
    highest = vec2(row_max(highest.x, 0), row_max(highest.y, 1));
    vec2 sum = vec2(0);
    i = start;
    if (i < n) {
        do {
            vec2 e = exp(vec2(load_column_f32(student, i, n), load_column_f32(teacher, i, n)) - highest);
            if (in_row(i, n)) sum += e;
            i += width;
        } while (i < n);
    }
    sum = vec2(row_sum(sum.x, 2), row_sum(sum.y, 3));
    vec2 norm = highest + log(sum);

    // MIX: forward, reverse. JSD: its value, sum p (ls - lm). SOFT: its value.
    vec2 total = vec2(0);
    i = start;
    if (i < n) {
        do {
            vec2 l = vec2(load_column_f32(student, i, n), load_column_f32(teacher, i, n)) - norm, p = exp(l), value;
            if (mode == MIX) {
                value = vec2(p.y, -p.x) * (l.y - l.x);
            } else if (mode == JSD) {
                float m = log(max(mix(p.x, p.y, beta), 1e-38));
                value.y = p.x * (l.x - m);
                value.x = beta * p.y * (l.y - m) + (1.0 - beta) * value.y;
            } else {
                value = vec2(-p.y * l.x, 0.0);
            }
            if (in_row(i, n)) total += value;
            i += width;
        } while (i < n);
    }
    total = vec2(row_sum(total.x, 4), row_sum(total.y, 5));
    float weight = counts ? 1.0 : 0.0;
    if (mode == SOFT) weight = F32(a.weights).v[row];
    if (gl_LocalInvocationIndex == 0) {
        float distance = mode == MIX ? mix(total.x, total.y, beta) : total.x;
        F32(a.distance).v[row] = weight == 0.0 ? 0.0 : weight * distance;
        F32(a.entropy).v[row] = counts ? norm.x - F32(student).v[max(label, 0)] : 0.0;
        if (a.confidence != 0) F32(a.confidence).v[row] = counts ? 1.0 / sum.y : 0.0;
    }
    if (a.gradient == 0) return;
    // The label's logit is read above before it is replaced below.
    if (SUBGROUPS > 1) {
        memoryBarrierBuffer();
        barrier();
    } else {
        subgroupMemoryBarrierBuffer();
        subgroupBarrier();
    }
    float distance_scale = weight * F32(a.factors).v[0], entropy_scale = counts ? F32(a.factors).v[1] : 0.0;
    i = start;
    if (i < n) {
        do {
            vec2 l = vec2(load_column_f32(student, i, n), load_column_f32(teacher, i, n)) - norm, p = exp(l);
            float d;
            if (mode == MIX) {
                d = (1.0 - beta) * (p.x - p.y) + beta * p.x * (l.x - l.y - total.y);
            } else if (mode == JSD) {
                float m = log(max(mix(p.x, p.y, beta), 1e-38));
                d = (1.0 - beta) * p.x * (l.x - m - total.y);
            } else {
                d = p.x - p.y;
            }
            uint c = own_column(i);
            float e = p.x - (int(c) == label ? 1.0 : 0.0);
            float value = (distance_scale == 0.0 ? 0.0 : distance_scale * d) + (entropy_scale == 0.0 ? 0.0 : entropy_scale * e);
            if (c < n) F32(student).v[c] = value;
            i += width;
        } while (i < n);
    }
}

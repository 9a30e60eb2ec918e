#version 460
//! variant spread_logits
// teacher = its k largest logits; all others: the student's, moved so that they have together what is left of 1.
#include "common.glsl"
#include "args/distillation.h"
#define SLOTS 4
#include "ops/row_reduce.glsl"
layout(push_constant, scalar) uniform Push { SpreadLogitsArgs a; };

void main() {
    init_lanes();
    uint row = workgroup_index(), start = first_column(), i = start, width = gl_WorkGroupSize.x, n = a.vocab;
    if (row >= a.rows) return;
    const uint64_t student = a.student + uint64_t(row) * n * 4, teacher = a.teacher + uint64_t(row) * n * 4;
    const uint64_t ids = a.ids + uint64_t(row) * a.k * 4, values = a.values + uint64_t(row) * a.k * 4;
    const float norm = F32(a.norm).v[row];
    float highest = -1.0 / 0.0, sum = 0.0;
    if (i < n) {
        do {
            highest = max(highest, load_column_f32(student, i, n));
            i += width;
        } while (i < n);
    }
    highest = row_max(highest, 0);
    i = start;
    if (i < n) {
        do {
            const float e = exp(load_column_f32(student, i, n) - highest);
            if (in_row(i, n)) sum += e;
            i += width;
        } while (i < n);
    }
    const float student_norm = highest + log(row_sum(sum, 1));
    vec2 top = vec2(0);  // the student's and the teacher's probability of the k
    i = gl_LocalInvocationIndex;
    if (i < a.k) {
        do {
            top.x += exp(F32(student).v[min(uint(I32(ids).v[i]), n - 1)] - student_norm);
            top.y += exp(F32(values).v[i] - norm);
            i += width;
        } while (i < a.k);
    }
    const vec2 rest = max(1.0 - vec2(row_sum(top.x, 2), row_sum(top.y, 3)), vec2(1e-6));
    const float move = norm - student_norm + log(rest.y) - log(rest.x);
    F32 result = F32(teacher);
    i = start;
    if (i < n) {
        do {
            const float x = load_column_f32(student, i, n);
            if (in_row(i, n)) result.v[own_column(i)] = x + move;
            i += width;
        } while (i < n);
    }
    if (SUBGROUPS > 1) {
        memoryBarrierBuffer();
        barrier();
    } else {
        subgroupMemoryBarrierBuffer();
        subgroupBarrier();
    }
    i = gl_LocalInvocationIndex;
    if (i < a.k) {
        do {
            result.v[min(uint(I32(ids).v[i]), n - 1)] = F32(values).v[i];
            i += width;
        } while (i < a.k);
    }
}

#version 460
//! variant hidden_distance
// With unit vectors u = s/|s|, v = t/|t|: loss = |v - u|^2, dloss/ds = 2 (u (u v) - v) / |s|.
#include "common.glsl"
#include "args/distillation.h"
#define SLOTS 4
#include "ops/row_reduce.glsl"
layout(push_constant, scalar) uniform Push { HiddenDistanceArgs a; };

void main() {
    init_lanes();
    uint row = workgroup_index(), start = first_column(), i = start, width = gl_WorkGroupSize.x, n = a.dim;
    if (row >= a.rows) return;
    uint64_t offset = uint64_t(row) * n * 4, student = a.student + offset, teacher = a.teacher + offset;
    vec2 squares = vec2(0);
    if (i < n) {
        do {
            vec2 x = vec2(load_column_f32(student, i, n), load_column_f32(teacher, i, n));
            if (in_row(i, n)) squares += x * x;
            i += width;
        } while (i < n);
    }
    squares = vec2(row_sum(squares.x, 0), row_sum(squares.y, 1));
    vec2 inverse = 1.0 / max(sqrt(squares), vec2(1e-12)), total = vec2(0);  // distance, cosine
    i = start;
    if (i < n) {
        do {
            vec2 u = vec2(load_column_f32(student, i, n), load_column_f32(teacher, i, n)) * inverse;
            if (in_row(i, n)) total += vec2((u.y - u.x) * (u.y - u.x), u.x * u.y);
            i += width;
        } while (i < n);
    }
    total = vec2(row_sum(total.x, 2), row_sum(total.y, 3));
    if (gl_LocalInvocationIndex == 0) F32(a.loss).v[row] = total.x;
    if (a.gradient == 0) return;
    float scale = F32(a.scale).v[0] * 2.0 * inverse.x;
    F32 gradient = F32(a.gradient + offset);
    i = start;
    if (i < n) {
        do {
            vec2 u = vec2(load_column_f32(student, i, n), load_column_f32(teacher, i, n)) * inverse;
            float base = load_base(a.base, offset, student, i, n);
            if (in_row(i, n)) gradient.v[own_column(i)] = base + scale * (u.x * total.y - u.y);
            i += width;
        } while (i < n);
    }
}

#version 460
//! variant onebit_norm_backward_f32 FACTOR=f32
//! variant onebit_norm_backward_f16 FACTOR=f16
//! variant onebit_norm_backward_bf16 FACTOR=bf16
#include "common.glsl"
#include "args/onebit.h"
#define SLOTS 2
#include "ops/row_reduce.glsl"
layout(push_constant, scalar) uniform Push { OnebitNormBackwardArgs a; };

// With n = y: dt = inverse (dy - mean(dy) - n mean(dy n)), du = dt factor.
void main() {
    init_lanes();
    uint row = workgroup_index(), start = first_column(), i = start;
    if (row >= a.rows) return;
    uint64_t offset = uint64_t(row) * a.dim * 4, u = a.u + offset, dy = a.dy + (uint64_t(row) * a.stride + a.first) * 4;
    F32 dt = F32(a.dt + offset), du = F32(a.du + offset);
    float mean = F32(a.statistics).v[2 * row], inverse = F32(a.statistics).v[2 * row + 1], sum = 0, along = 0;
    if (i < a.dim) {
        do {
            float d = load_column_f32(dy, i, a.dim);
            sum += d;
            along += d * (load_column_f32(u, i, a.dim) * LOAD_COLUMN(FACTOR, a.factor, i, a.dim) - mean) * inverse;
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
    float mean_dy = row_sum(sum, 0) / float(a.dim), mean_along = row_sum(along, 1) / float(a.dim);
    i = start;
    if (i < a.dim) {
        do {
            float factor = LOAD_COLUMN(FACTOR, a.factor, i, a.dim);
            float n = (load_column_f32(u, i, a.dim) * factor - mean) * inverse;
            float value = inverse * (load_column_f32(dy, i, a.dim) - mean_dy - n * mean_along);
            dt.v[own_column(i)] = value;
            du.v[own_column(i)] = value * factor;
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
}

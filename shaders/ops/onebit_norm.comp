#version 460
//! variant onebit_norm_f32 FACTOR=f32
//! variant onebit_norm_f16 FACTOR=f16
//! variant onebit_norm_bf16 FACTOR=bf16
#include "common.glsl"
#include "args/onebit.h"
#define SLOTS 2
#include "ops/row_reduce.glsl"
layout(push_constant, scalar) uniform Push { OnebitNormArgs a; };

void main() {
    init_lanes();
    uint row = workgroup_index(), start = first_column(), i = start;
    if (row >= a.rows) return;
    uint64_t u = a.u + uint64_t(row) * a.dim * 4;
    F32 y = F32(a.y + (uint64_t(row) * a.stride + a.first) * 4);
    float sum = 0;
    if (i < a.dim) {
        do {
            sum += load_column_f32(u, i, a.dim) * LOAD_COLUMN(FACTOR, a.factor, i, a.dim);
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
    float mean = row_sum(sum, 0) / float(a.dim), squares = 0;
    i = start;
    if (i < a.dim) {
        do {
            float d = load_column_f32(u, i, a.dim) * LOAD_COLUMN(FACTOR, a.factor, i, a.dim) - mean;
            squares += d * d;
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
    float inverse = 1 / sqrt(row_sum(squares, 1) / float(a.dim) + a.eps);
    i = start;
    if (i < a.dim) {
        do {
            y.v[own_column(i)] = (load_column_f32(u, i, a.dim) * LOAD_COLUMN(FACTOR, a.factor, i, a.dim) - mean) * inverse;
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
    if (a.statistics != 0 && gl_LocalInvocationIndex == 0) {
        F32(a.statistics).v[2 * row] = mean;
        F32(a.statistics).v[2 * row + 1] = inverse;
    }
}

#version 460
//! variant rms_norm_backward_f32 WEIGHT=f32
//! variant rms_norm_backward_f16 WEIGHT=f16
//! variant rms_norm_backward_bf16 WEIGHT=bf16
#include "common.glsl"
#include "args/rms_norm.h"
#define SLOTS 1
#include "ops/row_reduce.glsl"
layout(push_constant, scalar) uniform Push { RmsNormBackwardArgs a; };

// With r = inv_rms and n = w * dy: dx = r n - x r^3 mean(n x).
void main() {
    init_lanes();
    uint row = workgroup_index(), first = first_column(), i = first;
    if (row >= a.rows) return;
    uint64_t offset = uint64_t(row) * a.dim * 4, x = a.x + offset, dy = a.dy + offset;
    F32 dx = F32(a.dx + offset);
    float r = F32(a.inv_rms).v[row], sum = 0;
    if (i < a.dim) {
        do {
            float n = load_column_f32(dy, i, a.dim) * LOAD_COLUMN(WEIGHT, a.weight, i, a.dim);
            sum += n * load_column_f32(x, i, a.dim);
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
    float c = row_sum(sum, 0) / float(a.dim) * r * r * r;
    i = first;
    if (i < a.dim) {
        do {
            float n = load_column_f32(dy, i, a.dim) * LOAD_COLUMN(WEIGHT, a.weight, i, a.dim);
            float value = r * n - c * load_column_f32(x, i, a.dim);
            dx.v[own_column(i)] = load_base(a.base, offset, x, i, a.dim) + value;
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
}

#version 460
//! variant rms_norm_f32 WEIGHT=f32 TYPE=f32
//! variant rms_norm_f16 WEIGHT=f16 TYPE=f32
//! variant rms_norm_bf16 WEIGHT=bf16 TYPE=f32
//! variant rms_norm_f32_to_f16 WEIGHT=f32 TYPE=f16
//! variant rms_norm_f32_to_bf16 WEIGHT=f32 TYPE=bf16
#include "common.glsl"
#include "args/rms_norm.h"
#define SLOTS 1
#include "ops/row_reduce.glsl"
layout(push_constant, scalar) uniform Push { RmsNormArgs a; };

void main() {
    init_lanes();
    uint row = workgroup_index(), first = first_column(), i = first;
    if (row >= a.rows) return;
    uint64_t offset = uint64_t(row) * a.dim * 4, x = a.x + offset;
    uint64_t y = AT(TYPE, a.y, uint64_t(row) * a.dim);
    float sum = 0;
    if (i < a.dim) {
        do {
            float value = load_column_f32(x, i, a.dim);
            sum += value * value;
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
    float inv_rms = 1 / sqrt(row_sum(sum, 0) / float(a.dim) + a.eps);
    i = first;
    if (i < a.dim) {
        do {
            STORE(TYPE, y, own_column(i), load_column_f32(x, i, a.dim) * inv_rms * LOAD_COLUMN(WEIGHT, a.weight, i, a.dim));
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
    if (a.inv_rms != 0 && gl_LocalInvocationIndex == 0) F32(a.inv_rms).v[row] = inv_rms;
}

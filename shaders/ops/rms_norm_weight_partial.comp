#version 460
//! variant rms_norm_weight_partial
#include "common.glsl"
#include "args/rms_norm.h"
#include "ops/columns.glsl"
layout(push_constant, scalar) uniform Push { RmsNormPartialArgs a; };

const uint AT_ONCE = 4;

void main() {
    init_lanes();
    uint blocks = (a.dim + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x, number = workgroup_index(), chunk = number / blocks;
    uint row = chunk * a.chunk_rows;
    if (row >= a.rows) return;
    uint end = min(row + a.chunk_rows, a.rows);
    uint place = (number - chunk * blocks) * gl_WorkGroupSize.x + first_column(), column = own_column(place);
    float sum = 0;
    do {
        [[unroll]] for (uint k = 0; k < AT_ONCE; k++) {
            uint r = min(row + k, end - 1);
            uint64_t offset = uint64_t(r) * a.dim * 4;
            float value = load_column_f32(a.dy + offset, place, a.dim) * load_column_f32(a.x + offset, place, a.dim);
            sum += row + k < end ? value * F32(a.inv_rms).v[r] : 0.0;
        }
        row += AT_ONCE;
    } while (row < end);
    if (column < a.dim) F32(a.partial + uint64_t(chunk) * a.dim * 4).v[column] = sum;
}

#version 460
//! variant column_products
#include "common.glsl"
#include "args/onebit.h"
#include "ops/columns.glsl"
layout(push_constant, scalar) uniform Push { ColumnProductsArgs a; };

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
            uint64_t offset = uint64_t(min(row + k, end - 1)) * a.dim * 4;
            float value = load_column_f32(a.a + offset, place, a.dim) * load_column_f32(a.b + offset, place, a.dim);
            sum += row + k < end ? value : 0.0;
        }
        row += AT_ONCE;
    } while (row < end);
    if (column < a.dim) F32(a.partial + uint64_t(chunk) * a.dim * 4).v[column] = sum;
}

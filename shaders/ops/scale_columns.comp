#version 460
//! variant scale_columns_f32 FACTOR=f32
//! variant scale_columns_f16 FACTOR=f16
//! variant scale_columns_bf16 FACTOR=bf16
#include "common.glsl"
#include "args/onebit.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { ScaleColumnsArgs a; };

void main() {
    uint row, column;
    locate(a.dim, row, column);
    if (row >= a.rows) return;
    uint64_t offset = uint64_t(row) * a.dim * 4, x = a.x + offset;
    F32 y = F32(a.y + offset);
    EACH_STEP(k) {
        uint place = step_column(column, k), i = own_column(place);
        float value = load_column_f32(x, place, a.dim) * LOAD_COLUMN(FACTOR, a.factor, place, a.dim);
        float base = load_base(a.base, offset, x, place, a.dim);
        if (i < a.dim) y.v[i] = base + value;
    }
}

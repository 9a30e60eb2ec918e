#version 460
//! variant add
#include "common.glsl"
#include "args/add.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { AddArgs a; };

void main() {
    uint row, column;
    locate(a.count, row, column);
    if (row > 0) return;
    float base[MAX_STEPS], x[MAX_STEPS];
    EACH_STEP(k) base[k] = LOAD_COLUMN(f32, a.base, step_column(column, k), a.count);
    EACH_STEP(k) x[k] = LOAD_COLUMN(f32, a.x, step_column(column, k), a.count);
    EACH_STEP(k) {
        uint i = own_column(step_column(column, k));
        if (i < a.count) store_f32(a.y, i, base[k] + x[k]);
    }
}

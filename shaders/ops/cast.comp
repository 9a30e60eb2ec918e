#version 460
//! variant cast_f32_f32 FROM=f32 TO=f32
//! variant cast_f32_f16 FROM=f32 TO=f16
//! variant cast_f32_bf16 FROM=f32 TO=bf16
//! variant cast_f16_f32 FROM=f16 TO=f32
//! variant cast_bf16_f32 FROM=bf16 TO=f32
#include "common.glsl"
#include "args/cast.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { CastArgs a; };

void main() {
    uint row, column;
    locate(a.count, row, column);
    if (row > 0) return;
    float x[MAX_STEPS];
    EACH_STEP(k) x[k] = LOAD_COLUMN(FROM, a.x, step_column(column, k), a.count);
    EACH_STEP(k) {
        uint i = own_column(step_column(column, k));
        if (i < a.count) STORE(TO, a.y, i, x[k]);
    }
}

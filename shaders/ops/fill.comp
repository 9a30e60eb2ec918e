#version 460
//! variant fill
#include "common.glsl"
#include "args/fill.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { FillArgs a; };

void main() {
    uint row, column;
    locate(a.count, row, column);
    EACH_STEP(k) {
        uint i = own_column(step_column(column, k));
        if (row == 0 && i < a.count) U32(a.y).v[i] = a.word;
    }
}

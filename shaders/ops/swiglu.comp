#version 460
//! variant swiglu
#include "common.glsl"
#include "args/swiglu.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { SwigluArgs a; };

void main() {
    uint row, column;
    locate(a.cols, row, column);
    if (row >= a.rows) return;
    uint64_t gate = a.gate + uint64_t(row) * a.stride * 4, up = a.up + (uint64_t(row) * a.stride + a.up_offset) * 4;
    F32 y = F32(a.y + uint64_t(row) * a.cols * 4);
    float g[MAX_STEPS], u[MAX_STEPS];
    EACH_STEP(k) {
        uint place = step_column(column, k);
        g[k] = load_column_f32(gate, place, a.cols);
        u[k] = load_column_f32(up, place, a.cols);
    }
    EACH_STEP(k) {
        uint i = own_column(step_column(column, k));
        if (i < a.cols) y.v[i] = g[k] / (1 + exp(min(-g[k], 80))) * u[k];
    }
}

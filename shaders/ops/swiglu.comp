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
    F32 gate = F32(a.gate + uint64_t(row) * a.stride * 4);
    F32 up = F32(a.up + (uint64_t(row) * a.stride + a.up_offset) * 4);
    F32 y = F32(a.y + uint64_t(row) * a.cols * 4);
    float g[MAX_STEPS], u[MAX_STEPS];
    EACH_STEP(k) {
        uint i = min(step_column(column, k), a.cols - 1);
        g[k] = gate.v[i];
        u[k] = up.v[i];
    }
    EACH_STEP(k) {
        uint i = step_column(column, k);
        if (i < a.cols) y.v[i] = g[k] / (1 + exp(min(-g[k], 80))) * u[k];
    }
}

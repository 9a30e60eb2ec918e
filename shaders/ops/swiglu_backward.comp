#version 460
//! variant swiglu_backward
#include "common.glsl"
#include "args/swiglu.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { SwigluBackwardArgs a; };

void main() {
    uint row, column;
    locate(a.cols, row, column);
    if (row >= a.rows) return;
    uint64_t gate_row = uint64_t(row) * a.stride * 4, up_row = gate_row + uint64_t(a.up_offset) * 4;
    uint64_t gate = a.gate + gate_row, up = a.up + up_row, dy = a.dy + uint64_t(row) * a.cols * 4;
    F32 d_gate = F32(a.d_gate + gate_row), d_up = F32(a.d_up + up_row);
    float g[MAX_STEPS], u[MAX_STEPS], d[MAX_STEPS];
    EACH_STEP(k) {
        uint place = step_column(column, k);
        g[k] = load_column_f32(gate, place, a.cols);
        u[k] = load_column_f32(up, place, a.cols);
        d[k] = load_column_f32(dy, place, a.cols);
    }
    EACH_STEP(k) {
        uint place = step_column(column, k), i = own_column(place);
        float base_gate = load_base(a.base_gate, gate_row, gate, place, a.cols);
        float base_up = load_base(a.base_up, up_row, up, place, a.cols);
        if (i < a.cols) {
            float sigmoid = 1 / (1 + exp(min(-g[k], 80)));
            if (a.d_gate != 0) d_gate.v[i] = base_gate + d[k] * u[k] * sigmoid * (1 + g[k] * (1 - sigmoid));
            if (a.d_up != 0) d_up.v[i] = base_up + d[k] * g[k] * sigmoid;
        }
    }
}

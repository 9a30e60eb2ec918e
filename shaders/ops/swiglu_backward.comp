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
    F32 gate = F32(a.gate + gate_row), up = F32(a.up + up_row), dy = F32(a.dy + uint64_t(row) * a.cols * 4);
    F32 base_gate = F32(a.base_gate + gate_row), d_gate = F32(a.d_gate + gate_row);
    F32 base_up = F32(a.base_up + up_row), d_up = F32(a.d_up + up_row);
    float g[MAX_STEPS], u[MAX_STEPS], d[MAX_STEPS];
    EACH_STEP(k) {
        uint i = min(step_column(column, k), a.cols - 1);
        g[k] = gate.v[i];
        u[k] = up.v[i];
        d[k] = dy.v[i];
    }
    EACH_STEP(k) {
        uint i = step_column(column, k);
        if (i < a.cols) {
            float sigmoid = 1 / (1 + exp(min(-g[k], 80)));
            if (a.d_gate != 0) {
                float value = d[k] * u[k] * sigmoid * (1 + g[k] * (1 - sigmoid));
                if (a.base_gate != 0) value += base_gate.v[i];
                d_gate.v[i] = value;
            }
            if (a.d_up != 0) {
                float value = d[k] * g[k] * sigmoid;
                if (a.base_up != 0) value += base_up.v[i];
                d_up.v[i] = value;
            }
        }
    }
}

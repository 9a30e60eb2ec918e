#version 460
//! variant swiglu_backward_f32_to_f32 TYPE=f32 GRADIENT=f32
//! variant swiglu_backward_f16_to_f32 TYPE=f16 GRADIENT=f32
//! variant swiglu_backward_bf16_to_f32 TYPE=bf16 GRADIENT=f32
//! variant swiglu_backward_f16_to_f16 TYPE=f16 GRADIENT=f16 ROUNDED=1
//! variant swiglu_backward_bf16_to_bf16 TYPE=bf16 GRADIENT=bf16 ROUNDED=1
#include "common.glsl"
#include "args/swiglu.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { SwigluBackwardArgs a; };

void main() {
    uint row, column;
    locate(a.cols, row, column);
    if (row >= a.rows) return;
    uint64_t gate_row = uint64_t(row) * a.stride, up_row = gate_row + a.up_offset, dy = a.dy + uint64_t(row) * a.cols * 4;
    uint64_t gate = AT(TYPE, a.gate, gate_row), up = AT(TYPE, a.up, up_row);
    uint64_t d_gate = AT(GRADIENT, a.d_gate, gate_row), d_up = AT(GRADIENT, a.d_up, up_row);
    float g[MAX_STEPS], u[MAX_STEPS], d[MAX_STEPS];
    EACH_STEP(k) {
        uint place = step_column(column, k);
        g[k] = LOAD_COLUMN(TYPE, gate, place, a.cols);
        u[k] = LOAD_COLUMN(TYPE, up, place, a.cols);
        d[k] = load_column_f32(dy, place, a.cols);
    }
    EACH_STEP(k) {
        uint place = step_column(column, k), i = own_column(place);
#ifdef ROUNDED  // a first contribution
        const float base_gate = 0, base_up = 0;
#else
        float base_gate = load_base(a.base_gate, gate_row * 4, dy, place, a.cols);
        float base_up = load_base(a.base_up, up_row * 4, dy, place, a.cols);
#endif
        if (i < a.cols) {
            float sigmoid = 1 / (1 + exp(min(-g[k], 80)));
            if (a.d_gate != 0) STORE(GRADIENT, d_gate, i, base_gate + d[k] * u[k] * sigmoid * (1 + g[k] * (1 - sigmoid)));
            if (a.d_up != 0) STORE(GRADIENT, d_up, i, base_up + d[k] * g[k] * sigmoid);
        }
    }
}

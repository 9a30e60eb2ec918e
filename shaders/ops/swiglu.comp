#version 460
//! variant swiglu_f32_to_f32 FROM=f32 TYPE=f32
//! variant swiglu_f32_to_f16 FROM=f32 TYPE=f16
//! variant swiglu_f32_to_bf16 FROM=f32 TYPE=bf16
//! variant swiglu_f16_to_f16 FROM=f16 TYPE=f16
//! variant swiglu_bf16_to_bf16 FROM=bf16 TYPE=bf16
#include "common.glsl"
#include "args/swiglu.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { SwigluArgs a; };

float round_f32(float x) { return x; }
float round_f16(float x) { return float(float16_t(x)); }
float round_bf16(float x) { return bf16_to_float(float_to_bf16(x)); }
#define ROUND(type, x) CONCAT(round_, type)(x)

void main() {
    uint row, column;
    locate(a.cols, row, column);
    if (row >= a.rows) return;
    uint64_t gate_row = uint64_t(row) * a.stride, gate = AT(FROM, a.gate, gate_row), up = AT(FROM, a.up, gate_row + a.up_offset);
    uint64_t y = AT(TYPE, a.y, uint64_t(row) * a.cols), saved = AT(TYPE, a.saved, uint64_t(row) * a.stride);
    float g[MAX_STEPS], u[MAX_STEPS];
    EACH_STEP(k) {
        uint place = step_column(column, k);
        g[k] = LOAD_COLUMN(FROM, gate, place, a.cols);
        u[k] = LOAD_COLUMN(FROM, up, place, a.cols);
        if (a.saved != 0) {
            g[k] = ROUND(TYPE, g[k]);
            u[k] = ROUND(TYPE, u[k]);
        }
    }
    EACH_STEP(k) {
        uint i = own_column(step_column(column, k));
        if (i < a.cols) {
            STORE(TYPE, y, i, g[k] / (1 + exp(min(-g[k], 80))) * u[k]);
            if (a.saved != 0) {
                STORE(TYPE, saved, i, g[k]);
                STORE(TYPE, saved, i + a.up_offset, u[k]);
            }
        }
    }
}

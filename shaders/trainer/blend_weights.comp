#version 460
//! variant blend_weights_f32 OUTPUT=f32
//! variant blend_weights_f16 OUTPUT=f16
//! variant blend_weights_bf16 OUTPUT=bf16
#include "common.glsl"
#include "args/quantize.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { BlendWeightsArgs a; };

void main() {
    uint row, column;
    locate(a.dim, row, column);
    if (row >= a.rows) return;
    uint64_t first = uint64_t(row) * a.dim, weight = a.weight + first * 4, used = AT(OUTPUT, a.used, first);
    float strength = F32(a.strength).v[0];
    EACH_STEP(k) {
        uint place = step_column(column, k), i = own_column(place);
        float w = load_column_f32(weight, place, a.dim), q = LOAD_COLUMN(OUTPUT, used, place, a.dim);
        if (i < a.dim) STORE(OUTPUT, used, i, mix(w, q, strength));
    }
}

#version 460
//! variant embedding_f32 WEIGHT=f32
//! variant embedding_f16 WEIGHT=f16
//! variant embedding_bf16 WEIGHT=bf16
#include "common.glsl"
#include "args/embedding.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { EmbeddingArgs a; };

void main() {
    uint token, column;
    locate(a.dim, token, column);
    if (token >= a.tokens) return;
    uint id = uint(I32(a.ids).v[token]);  // a negative one is too large as well
    bool known = id < a.vocab;
    uint64_t weight = AT(WEIGHT, a.weight, uint64_t(min(id, a.vocab - 1)) * a.dim);
    F32 y = F32(a.y + uint64_t(token) * a.dim * 4);
    float w[MAX_STEPS];
    EACH_STEP(k) w[k] = LOAD_COLUMN(WEIGHT, weight, step_column(column, k), a.dim);
    EACH_STEP(k) {
        uint i = own_column(step_column(column, k));
        if (i < a.dim) y.v[i] = known ? w[k] : 0.0;
    }
}

#version 460
//! variant embedding_backward
#include "common.glsl"
#include "args/embedding.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { EmbeddingBackwardArgs a; };

const uint AT_ONCE = 4;

uint token_at(uint p) { return min(uint(I32(a.order).v[min(p, a.tokens - 1)]), a.tokens - 1); }
int id_of(uint token) { return I32(a.ids).v[token]; }

// A workgroup stands for a place in `order`; the first place of each id sums all tokens of that id.
void main() {
    uint p, column;
    locate(a.dim, p, column);
    int id = id_of(token_at(p));
    bool first = p == 0 || id_of(token_at(max(p, 1) - 1)) != id;
    if (p >= a.tokens || !first || uint(id) >= a.vocab) return;
    uint own = own_column(column);
    F32 d_weight = F32(a.d_weight + uint64_t(uint(id)) * a.dim * 4);
    float sum[MAX_STEPS];
    EACH_STEP(k) sum[k] = 0;
    bool more;
    do {
        more = true;
        [[unroll]] for (uint n = 0; n < AT_ONCE; n++) {
            uint token = token_at(p + n);
            more = more && p + n < a.tokens && id_of(token) == id;
            uint64_t dy = a.dy + uint64_t(token) * a.dim * 4;
            EACH_STEP(k) {
                float value = load_column_f32(dy, step_column(column, k), a.dim);
                sum[k] += more ? value : 0.0;
            }
        }
        p += AT_ONCE;
    } while (more);
    EACH_STEP(k) {
        uint i = step_column(own, k);
        if (i < a.dim) d_weight.v[i] += sum[k];
    }
}

#version 460
//! variant cached_attention_combine
// Joins the parts that cached_attention_split left: an invocation per output. Grid: (head_dim / width, heads, tokens).
#include "common.glsl"
#include "args/kv_cache.h"
#include "ops/context_parts.glsl"
layout(constant_id = 1) const bool COUNTED = false;
layout(push_constant, scalar) uniform Push { CombineAttentionArgs a; };

void main() {
    const uint d = min(gl_GlobalInvocationID.x, a.head_dim - 1), head = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
    uint count = a.tokens;
    if (COUNTED) count = U32(a.count).v[0];
    const uint keys = min(U32(a.start).v[0] + row + 1, a.max_positions);
    const uint length = part_length(keys, a.splits, a.shortest);
    const uint parts = (keys + length - 1) / length;
    const uint stride = a.head_dim + 2;
    const uint64_t partial = a.partial + (uint64_t(row) * a.heads + head) * a.splits * stride * 4;
    float top = -1e30, sum = 0, acc = 0;
    if (row < count) {
        uint i = 0;
        do {  // four parts at once, so that their loads overlap
            float tops[4], sums[4], values[4];
            [[unroll]] for (uint j = 0; j < 4; ++j) {
                F32 p = F32(partial + uint64_t(min(i + j, parts - 1)) * stride * 4);
                tops[j] = mix(-2e30, p.v[a.head_dim], i + j < parts);
                sums[j] = p.v[a.head_dim + 1];
                values[j] = p.v[d];
            }
            const float new_top = max(max(max(tops[0], tops[1]), max(tops[2], tops[3])), top);
            const float keep = exp2(top - new_top);
            sum *= keep;
            acc *= keep;
            [[unroll]] for (uint j = 0; j < 4; ++j) {
                const float take = exp2(tops[j] - new_top);
                sum += sums[j] * take;
                acc += values[j] * take;
            }
            top = new_top;
            i += 4;
        } while (i < parts);
    }
    if (gl_GlobalInvocationID.x >= a.head_dim) return;
    F32(a.y + (uint64_t(row) * a.heads + head) * a.head_dim * 4).v[d] = mix(acc / sum, 0.0, row >= count);
}

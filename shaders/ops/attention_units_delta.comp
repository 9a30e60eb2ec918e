#version 460
//! variant attention_units_delta_f16
//! variant attention_units_delta_bf16 BFLOAT=1
// delta = sum(dy * y) over head_dim, and dy as operand of the products: SPLIT lanes a token and head, 8 elements at a time.
#include "common.glsl"
#include "args/attention_units.h"
#define PACK_ONLY
#include "ops/matrix_types.glsl"
layout(constant_id = 1) const uint HEAD_DIM = 64;
layout(constant_id = 2) const uint SPLIT = 8;  // a power of two that divides head_dim / 8
layout(constant_id = 3) const bool ROUNDED = false;  // y
layout(push_constant, scalar) uniform Push { AttentionDeltaArgs a; };
#ifdef BFLOAT
#define UNPACK unpack_bf16
#else
#define UNPACK unpack_f16
#endif

void main() {
    const uint part = gl_SubgroupInvocationID % SPLIT;
    const uint item = workgroup_index() * (gl_WorkGroupSize.x / SPLIT) + gl_SubgroupInvocationID / SPLIT;
    const uint64_t row = uint64_t(min(item, a.rows - 1)) * HEAD_DIM;
    float sum = 0;
    UNROLL for (uint i = 0; i < HEAD_DIM / 8 / SPLIT; ++i) {
        const uint c = i * SPLIT + part;
        const vec4 low = F32x4(a.dy + row * 4).v[2 * c], high = F32x4(a.dy + row * 4).v[2 * c + 1];
        vec4 y_low, y_high;
        if (ROUNDED) {
            const uvec4 y = U32x4(a.y + row * 2).v[c];
            y_low = UNPACK(y.xy);
            y_high = UNPACK(y.zw);
        } else {
            y_low = F32x4(a.y + row * 4).v[2 * c];
            y_high = F32x4(a.y + row * 4).v[2 * c + 1];
        }
        sum += dot(low, y_low) + dot(high, y_high);
        U32x4(a.dy16 + row * 2).v[c] = pack8(low, high);
    }
    UNROLL for (uint m = 1; m < SPLIT; m *= 2) sum += subgroupShuffleXor(sum, m);
    if (part != 0 || item >= a.rows) return;
    const uint token = item / a.heads, head = item % a.heads;
    F32(a.delta + (uint64_t(token / a.seq_len) * a.heads + head) * a.seq_len * 4).v[token % a.seq_len] = sum;
}

#version 460
//! variant ternary_input_2 FIVE=0 BF16=0
//! variant ternary_input_5 FIVE=1 BF16=0
//! variant ternary_input_bf16 FIVE=1 BF16=1
// Activations to 8-bit integers behind their norms, for products of several tokens. A workgroup has a token.
#include "common.glsl"
#include "args/ternary_linear.h"
layout(push_constant, scalar) uniform Push { TernaryInputArgs a; };
layout(constant_id = 1) const uint NORM = 0;
layout(constant_id = 2) const bool VECTOR = true;
layout(constant_id = 3) const bool SECOND_NORM = false;
#include "ops/ternary_input.glsl"
shared int sums[gl_WorkGroupSize.x / 8];

void main() {
    const uint token = workgroup_index();
    if (token >= a.tokens) return;
    const uint64_t row = a.x + uint64_t(token) * a.in_cols * 4;
    const TokenFactors f = token_factors(row);
#if BF16
    U32x2 integers_to = U32x2(a.quantized + uint64_t(token) * a.in_cols * 2);
    for (uint i = gl_LocalInvocationIndex; i < a.in_cols / 4; i += gl_WorkGroupSize.x) {
        const uvec4 q = floatBitsToUint(vec4(integers(row, 4 * i, f)));  // of 8 bits: exact
        integers_to.v[i] = uvec2(q.x >> 16 | (q.y & 0xffff0000u), q.z >> 16 | (q.w & 0xffff0000u));
    }
    if (gl_LocalInvocationIndex < a.parts)
        F32(a.factors).v[gl_LocalInvocationIndex * a.tokens + token] = F32(a.centroids).v[gl_LocalInvocationIndex * 4 + 2] / f.a;
#else
    U32 to = U32(a.quantized + uint64_t(token) * a.padded);
    int sum = 0;
    for (uint i = gl_LocalInvocationIndex; i < a.padded / 4; i += gl_WorkGroupSize.x) {
        const ivec4 q = integers(row, 4 * i, f);
        sum += q.x + q.y + q.z + q.w;
        to.v[i] = in_order(q, i);
    }
    sum = subgroupAdd(sum);
    if (subgroupElect()) sums[gl_SubgroupID] = sum;
    barrier();
    if (gl_LocalInvocationIndex != 0) return;
    sum = 0;
    for (uint s = 0; s < gl_NumSubgroups; s++) sum += sums[s];
    F32(a.factors).v[2 * token] = 1 / f.a;
    I32(a.factors).v[2 * token + 1] = sum;
#endif
}

// 8-bit integers of a token's activations (runtime/ops/quantize_activations.h) behind its norms. All of a workgroup has one token.
// The includer has the arguments x, norm, in_cols, eps, second_eps and the constants NORM, VECTOR (linear_input.glsl), SECOND_NORM:
// another RMS norm, without weights, behind the first.
#include "ops/linear_input.glsl"
#include "trainer/divide.glsl"

shared float input_slots[3 * gl_WorkGroupSize.x / 8];

// q = clamp(round(x * inverse_rms * weight * second * a), -128, 127)
struct TokenFactors {
    float inverse_rms, second, a;
};

TokenFactors token_factors(uint64_t row) {
    float top = 0, square = 0, normed_square = 0;
    for (uint i = gl_LocalInvocationIndex * 4; i < a.in_cols; i += gl_WorkGroupSize.x * 4) {
        vec4 x = load_columns(row, i, a.in_cols);
        if (NORM != 0) {
            square += dot(x, x);
            x *= load_norm(a.norm, i, a.in_cols);
        }
        if (SECOND_NORM) normed_square += dot(x, x);
        x = abs(x);
        top = max(top, max(max(x.x, x.y), max(x.z, x.w)));
    }
    top = subgroupMax(top);
    if (NORM != 0) square = subgroupAdd(square);
    if (SECOND_NORM) normed_square = subgroupAdd(normed_square);
    if (subgroupElect()) {
        input_slots[3 * gl_SubgroupID] = top;
        input_slots[3 * gl_SubgroupID + 1] = square;
        input_slots[3 * gl_SubgroupID + 2] = normed_square;
    }
    barrier();
    top = square = normed_square = 0;
    for (uint s = 0; s < gl_NumSubgroups; s++) {
        top = max(top, input_slots[3 * s]);
        square += input_slots[3 * s + 1];
        normed_square += input_slots[3 * s + 2];
    }
    barrier();
    TokenFactors f;
    const float columns = float(a.in_cols);
    f.inverse_rms = NORM != 0 ? 1 / sqrt(square / columns + a.eps) : 1;
    f.second = SECOND_NORM ? 1 / sqrt(normed_square * (f.inverse_rms * f.inverse_rms) / columns + a.second_eps) : 1;
    f.a = divide(127.0, max(1e-5, top * f.inverse_rms * f.second));
    return f;
}

// Columns i .. i + 3 as integers; 0 beyond the row.
ivec4 integers(uint64_t row, uint i, TokenFactors f) {
    vec4 x = load_columns(row, i, a.in_cols);
    if (NORM != 0) x = x * f.inverse_rms * load_norm(a.norm, i, a.in_cols);
    if (SECOND_NORM) x *= f.second;
    return ivec4(clamp(roundEven(x * f.a), -128.0, 127.0));
}

// Four integers as bytes, in the order of ternary.glsl. i is the number of the four in the row: four neighbouring lanes have
// neighbouring numbers, the first a multiple of 4.
uint in_order(ivec4 q, uint i) {
    const uvec4 byte = uvec4(q) & 255u;
    uint d = byte.x | byte.y << 8 | byte.z << 16 | byte.w << 24;
#if !FIVE
    uint other = subgroupShuffleXor(d, 1u);
    d = (i & 1u) == 0 ? (d & 0x00ff00ffu) | (other & 0x00ff00ffu) << 8 : (other >> 8 & 0x00ff00ffu) | (d & 0xff00ff00u);
    other = subgroupShuffleXor(d, 2u);
    d = (i & 2u) == 0 ? (d & 0xffffu) | other << 16 : other >> 16 | (d & 0xffff0000u);
#endif
    return d;
}

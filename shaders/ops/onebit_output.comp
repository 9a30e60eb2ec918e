#version 460
//! variant onebit_output
// Layer norms of the parts of a row, for few tokens. A workgroup has a slice of SLICE columns of one part (with SWIGLU of both) and
// finds the part's mean and variance by itself. Grid: (slices of each part, 1, tokens).
#include "common.glsl"
#include "args/onebit.h"
layout(push_constant, scalar) uniform Push { OnebitOutputArgs a; };
layout(constant_id = 1) const uint SLICE = 1024;
layout(constant_id = 2) const bool SWIGLU = false;
shared float slots[gl_WorkGroupSize.x / 8];
float eps;

float sum_of_all(float x) {
    x = subgroupAdd(x);
    barrier();
    if (subgroupElect()) slots[gl_SubgroupID] = x;
    barrier();
    x = 0;
    for (uint s = 0; s < gl_NumSubgroups; s++) x += slots[s];
    return x;
}

// Mean and 1 / sqrt(variance + eps) of u * factor over `rows` columns.
vec2 statistics(F32 u, F32 factors, uint rows) {
    float sum = 0;
    for (uint i = gl_LocalInvocationIndex; i < rows; i += gl_WorkGroupSize.x) sum += u.v[i] * factors.v[i];
    const float mean = sum_of_all(sum) / float(rows);
    sum = 0;
    for (uint i = gl_LocalInvocationIndex; i < rows; i += gl_WorkGroupSize.x) {
        const float d = u.v[i] * factors.v[i] - mean;
        sum += d * d;
    }
    return vec2(mean, 1 / sqrt(sum_of_all(sum) / float(rows) + eps));
}

#define SLICES(rows) (((rows) + SLICE - 1) / SLICE)

void main() {
    uint number = workgroup_index(), rows = a.rows_0, first = 0;
    if (!SWIGLU && number >= SLICES(a.rows_0)) {
        number -= SLICES(a.rows_0);
        rows = a.rows_1, first = a.rows_0;
        if (number >= SLICES(a.rows_1)) {
            number -= SLICES(a.rows_1);
            rows = a.rows_2, first = a.rows_0 + a.rows_1;
        }
    }
    if (number >= SLICES(rows)) return;
    const uint token = gl_WorkGroupID.z, columns = a.rows_0 + a.rows_1 + a.rows_2;
    const uint64_t row = a.u + uint64_t(token) * columns * 4;
    F32 u = F32(row + first * 4), factors = F32(a.factors + first * 4);
    F32 u_up = F32(row + a.rows_0 * 4), factors_up = F32(a.factors + a.rows_0 * 4);
    // (c u - c mean) / sqrt(c^2 variance + eps) = (u - mean) / sqrt(variance + eps / c^2)
    eps = a.eps;
    if (a.x != 0) {
        F32 x = F32(a.x + uint64_t(token) * a.in_cols * 4);
        float square = 0;
        for (uint i = gl_LocalInvocationIndex; i < a.in_cols; i += gl_WorkGroupSize.x) square += x.v[i] * x.v[i];
        eps /= sum_of_all(square) / float(a.in_cols) + a.input_eps;
    }
    const vec2 s = statistics(u, factors, rows);
    const vec2 s_up = SWIGLU ? statistics(u_up, factors_up, rows) : vec2(0);
    const uint64_t at = (uint64_t(token) * (SWIGLU ? a.rows_0 : columns) + first) * 4;
    for (uint i = number * SLICE + gl_LocalInvocationIndex; i < min(rows, (number + 1) * SLICE); i += gl_WorkGroupSize.x) {
        float y = (u.v[i] * factors.v[i] - s.x) * s.y;
        if (SWIGLU) y = y / (1 + exp(-y)) * ((u_up.v[i] * factors_up.v[i] - s_up.x) * s_up.y);
        if (a.residual != 0) y += F32(a.residual + at).v[i];
        F32(a.y + at).v[i] = y;
    }
}

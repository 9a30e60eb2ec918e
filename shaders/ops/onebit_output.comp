#version 460
//! variant onebit_output
// Layer norms of the parts of a row, for few tokens. A workgroup has a slice of SLICE columns of one part (with SWIGLU of both) and
// finds the part's mean and variance by itself: an invocation keeps VALUES of the part's columns, so that all reads are on their
// way at once, and what all sum up goes across the workgroup twice. Grid: (slices of each part, 1, tokens).
#include "common.glsl"
#include "args/onebit.h"
layout(push_constant, scalar) uniform Push { OnebitOutputArgs a; };
layout(constant_id = 1) const uint SLICE = 1024;
layout(constant_id = 2) const bool SWIGLU = false;
layout(constant_id = 3) const uint VALUES = 1;        // at least the largest part's columns / width
layout(constant_id = 4) const uint INPUT_VALUES = 0;  // of x in front of the product
#define UNROLL [[unroll]]
const uint WIDTH = gl_WorkGroupSize.x;
shared vec3 slots[WIDTH / 8];

vec3 sum_of_all(vec3 x) {
    x = subgroupAdd(x);
    barrier();
    if (subgroupElect()) slots[gl_SubgroupID] = x;
    barrier();
    x = vec3(0);
    for (uint s = gl_SubgroupInvocationID; s < gl_NumSubgroups; s += gl_SubgroupSize) x += slots[s];
    return subgroupAdd(x);
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
    const uint token = gl_WorkGroupID.z, columns = a.rows_0 + a.rows_1 + a.rows_2, id = gl_LocalInvocationIndex;
    const uint64_t row = a.u + uint64_t(token) * columns * 4;
    // Of the part, and of the one that it gates.
    F32 u = F32(row + first * 4), factors = F32(a.factors + first * 4);
    F32 u_up = F32(row + a.rows_0 * 4), factors_up = F32(a.factors + a.rows_0 * 4);
    F32 x = F32(a.x + uint64_t(token) * a.in_cols * 4);

    float value[VALUES], value_up[SWIGLU ? VALUES : 1], input_value[INPUT_VALUES + 1];
    UNROLL for (uint k = 0; k < INPUT_VALUES; k++) input_value[k] = x.v[min(id + k * WIDTH, a.in_cols - 1)];
    UNROLL for (uint k = 0; k < VALUES; k++) {
        const uint i = min(id + k * WIDTH, rows - 1);
        value[k] = u.v[i] * factors.v[i];
        if (SWIGLU) value_up[k] = u_up.v[i] * factors_up.v[i];
    }
    vec3 sum = vec3(0);
    UNROLL for (uint k = 0; k < INPUT_VALUES; k++)
        if (id + k * WIDTH < a.in_cols) sum.z += input_value[k] * input_value[k];
    UNROLL for (uint k = 0; k < VALUES; k++)
        if (id + k * WIDTH < rows) {
            sum.x += value[k];
            if (SWIGLU) sum.y += value_up[k];
        }
    sum = sum_of_all(sum);
    const vec2 mean = sum.xy / float(rows);
    // (c u - c mean) / sqrt(c^2 variance + eps) = (u - mean) / sqrt(variance + eps / c^2)
    const float eps = INPUT_VALUES == 0 ? a.eps : a.eps / (sum.z / float(a.in_cols) + a.input_eps);
    sum = vec3(0);
    UNROLL for (uint k = 0; k < VALUES; k++)
        if (id + k * WIDTH < rows) {
            const float d = value[k] - mean.x;
            sum.x += d * d;
            if (SWIGLU) {
                const float d_up = value_up[k] - mean.y;
                sum.y += d_up * d_up;
            }
        }
    const vec2 inverse = 1 / sqrt(sum_of_all(sum).xy / float(rows) + eps);

    const uint64_t at = (uint64_t(token) * (SWIGLU ? a.rows_0 : columns) + first) * 4;
    for (uint i = number * SLICE + id; i < min(rows, (number + 1) * SLICE); i += WIDTH) {
        float y = (u.v[i] * factors.v[i] - mean.x) * inverse.x;
        if (SWIGLU) y = y / (1 + exp(-y)) * ((u_up.v[i] * factors_up.v[i] - mean.y) * inverse.y);
        if (a.residual != 0) y += F32(a.residual + at).v[i];
        F32(a.y + at).v[i] = y;
    }
}

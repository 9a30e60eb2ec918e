#version 460
//! variant quantize_activations
#include "common.glsl"
#include "args/quantize_activations.h"
#include "ops/columns.glsl"
#include "trainer/divide.glsl"
layout(push_constant, scalar) uniform Push { QuantizeActivationsArgs a; };
layout(constant_id = 2) const uint SUBGROUPS = 1;
shared float subgroup_maxima[64];

void main() {
    init_lanes();
    uint row = workgroup_index(), first = first_column(), i = first;
    if (row >= a.rows) return;
    uint64_t offset = uint64_t(row) * a.dim * 4, x = a.x + offset;
    F32 y = F32(a.y + offset);
    float largest = 1e-5;
    if (i < a.dim) {
        do {
            largest = max(largest, abs(load_column_f32(x, i, a.dim)));
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
    largest = subgroupMax(largest);
    if (SUBGROUPS > 1) {
        if (subgroupElect()) subgroup_maxima[gl_SubgroupID] = largest;
        barrier();
        for (uint s = 0; s < SUBGROUPS; s++) largest = max(largest, subgroup_maxima[s]);
    }
    float scale = divide(127.0, largest), strength = F32(a.strength != 0 ? a.strength : a.x).v[0];
    i = first;
    if (i < a.dim) {
        do {
            float value = load_column_f32(x, i, a.dim);
            float q = divide(clamp(roundEven(value * scale), -128.0, 127.0), scale);
            y.v[own_column(i)] = a.strength != 0 ? mix(value, q, strength) : q;
            i += gl_WorkGroupSize.x;
        } while (i < a.dim);
    }
}

#version 460
//! variant block_offsets
// For few tokens: what the zero points of blocks add to a product, with the norm in front of it. A workgroup makes the sums of all
// blocks by itself, then its subgroups take a row each in turn. Grid: (rows / ROWS, 1, tokens).
#include "common.glsl"
#include "args/block_sums.h"
layout(push_constant, scalar) uniform Push { BlockOffsetsArgs a; };
layout(constant_id = 1) const uint ROWS = 64;
layout(constant_id = 2) const uint QUADS = 1024;  // columns / 4
layout(constant_id = 3) const uint NORM = 0;
layout(constant_id = 4) const bool VECTOR = true;
#include "ops/linear_input.glsl"
shared float quads[QUADS];
shared float squares[gl_WorkGroupSize.x / 8];

void main() {
    const uint token = gl_WorkGroupID.z, first_row = workgroup_index() * ROWS;
    if (first_row >= a.rows) return;
    const uint64_t row = a.x + uint64_t(token) * a.in_cols * 4;
    float square = 0;
    for (uint i = gl_LocalInvocationIndex; i < QUADS; i += gl_WorkGroupSize.x) {
        vec4 x = load_columns(row, 4 * i, a.in_cols);
        if (NORM != 0) {
            square += dot(x, x);
            x *= load_norm(a.norm, 4 * i, a.in_cols);
        }
        quads[i] = x.x + x.y + x.z + x.w;
    }
    square = subgroupAdd(square);
    if (subgroupElect()) squares[gl_SubgroupID] = square;
    barrier();
    const uint blocks = a.in_cols / a.block_size, each = a.block_size / 4;
    float inv_rms = 1;
    if (NORM != 0) {
        square = 0;
        for (uint s = 0; s < gl_NumSubgroups; s++) square += squares[s];
        inv_rms = 1 / sqrt(square / float(a.in_cols) + a.eps);
    }
    // The sum of a block takes the place of its first quad; nobody else reads or writes that.
    for (uint b = gl_LocalInvocationIndex; b < blocks; b += gl_WorkGroupSize.x) {
        float sum = 0;
        for (uint k = 0; k < each; k++) sum += quads[b * each + k];
        quads[b * each] = sum * inv_rms;
    }
    barrier();
    for (uint r = gl_SubgroupID; r < ROWS; r += gl_NumSubgroups) {
        if (first_row + r >= a.rows) break;
        F32 offsets = F32(a.offsets + uint64_t(first_row + r) * blocks * 4);
        float sum = 0;
        for (uint b = gl_SubgroupInvocationID; b < blocks; b += gl_SubgroupSize) sum += offsets.v[b] * quads[b * each];
        sum = subgroupAdd(sum);
        if (subgroupElect()) {
            const uint64_t at = uint64_t(token) * a.rows * 4;
            if (a.residual != 0) sum += F32(a.residual + at).v[first_row + r];
            F32(a.y + at).v[first_row + r] = sum;
        }
    }
}

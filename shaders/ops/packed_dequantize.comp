#version 460
//! variant packed_dequantize_f32 OUTPUT=f32
//! variant packed_dequantize_f16 OUTPUT=f16
//! variant packed_dequantize_bf16 OUTPUT=bf16
// One subgroup per row.
#include "common.glsl"
#include "args/packed_linear.h"
#include "ops/packed.glsl"
layout(push_constant, scalar) uniform Push { DequantizeArgs a; };

void main() {
    uint row = workgroup_index();
    if (row >= a.out_rows) return;
    load_table(a.centroids);
    uint64_t row_address = a.indices + uint64_t(row) * a.row_bytes;
    U16 scales = U16(a.scales + uint64_t(row) * (a.in_cols / a.block_size) * 2);
    for (uint i = gl_SubgroupInvocationID; i < a.in_cols; i += gl_WorkGroupSize.x) {
        float w = centroid_of(a.centroids, index_at(row_address, i)) * bf16_to_float(scales.v[i / a.block_size]);
        STORE(OUTPUT, a.weight, uint64_t(row) * a.in_cols + i, w);
    }
}

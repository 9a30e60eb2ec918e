#version 460
//! variant packed_dequantize_f32 OUTPUT=f32
//! variant packed_dequantize_f16 OUTPUT=f16
//! variant packed_dequantize_bf16 OUTPUT=bf16
// One subgroup per row.
#include "common.glsl"
#include "args/packed_linear.h"
layout(constant_id = 1) const uint BITS = 2;
#include "ops/packed.glsl"
layout(push_constant, scalar) uniform Push { DequantizeArgs a; };

void main() {
    const uint row = workgroup_index();
    if (row >= a.rows_0 + a.rows_1 + a.rows_2) return;
    uint part = 0, of_part = row, tile = 0;
    if (row >= a.rows_0 + a.rows_1) {
        part = 2, of_part = row - a.rows_0 - a.rows_1, tile = a.tiles_2;
    } else if (row >= a.rows_0) {
        part = 1, of_part = row - a.rows_0, tile = a.tiles_1;
    }
    tile += of_part / TILE_ROWS;
    const uint tiled_row = tile * TILE_ROWS + of_part % TILE_ROWS, runs = runs_of(a.in_cols), blocks = a.in_cols / a.block_size;
    U16 scales = U16(scale_address(a.scales, tiled_row, 0, blocks));
    F32 centroids = F32(a.centroids + uint64_t(part) * ((INDEX_MASK + 1) * 4));
    for (uint i = gl_SubgroupInvocationID; i < a.in_cols; i += gl_WorkGroupSize.x) {
        const float w = centroids.v[index_at(a.indices, tiled_row, i, runs)];
        STORE(OUTPUT, a.weight, uint64_t(row) * a.in_cols + i, w * bf16_to_float(scales.v[i / a.block_size * 4]));
    }
}

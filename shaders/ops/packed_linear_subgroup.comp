#version 460
//! variant packed_linear_subgroup
// One subgroup per row and group of tokens: each lane takes every LANES-th run of 32 indices, decodes it once and multiplies it
// with all tokens of the group.
#include "common.glsl"
#include "args/packed_linear.h"
#include "ops/packed.glsl"
layout(push_constant, scalar) uniform Push { PackedLinearArgs a; };
layout(constant_id = 1) const uint group_tokens = 1;   // at most 8
layout(constant_id = 3) const bool whole_runs = true;  // 32 divides block_size: a run has one scale, and its words are aligned
#define UNROLL [[unroll]]

void main() {
    uint lane = gl_SubgroupInvocationID, row = workgroup_index(), token0 = gl_WorkGroupID.z * group_tokens;
    if (row >= a.out_rows) return;
    load_table(a.centroids);
    uint64_t row_address = a.indices + uint64_t(row) * a.row_bytes;
    U16 scales = U16(a.scales + uint64_t(row) * (a.in_cols / a.block_size) * 2);
    uint64_t x_address[8];
    float sum[8];
    UNROLL for (uint t = 0; t < 8; t++)
        if (t < group_tokens) {
            x_address[t] = a.x + uint64_t(min(token0 + t, a.tokens - 1)) * a.in_cols * 4;
            sum[t] = 0.0;
        }
    if (whole_runs) {
        for (uint run = lane; run < a.in_cols / 32; run += gl_WorkGroupSize.x) {
            uint word[8];
            UNROLL for (uint i = 0; i < 8; i++)
                if (i < bits) word[i] = big_endian(U32(row_address + uint64_t(run) * bits * 4).v[i]);
            float scale = bf16_to_float(scales.v[run * 32 / a.block_size]);
            UNROLL for (uint i = 0; i < 32; i++) {
                float w = centroid_of(a.centroids, INDEX_OF(word, i)) * scale;
                UNROLL for (uint t = 0; t < 8; t++)
                    if (t < group_tokens) sum[t] += w * F32(x_address[t]).v[run * 32 + i];
            }
        }
    } else {
        for (uint i = lane; i < a.in_cols; i += gl_WorkGroupSize.x) {
            float w = centroid_of(a.centroids, index_at(row_address, i)) * bf16_to_float(scales.v[i / a.block_size]);
            UNROLL for (uint t = 0; t < 8; t++)
                if (t < group_tokens) sum[t] += w * F32(x_address[t]).v[i];
        }
    }
    UNROLL for (uint t = 0; t < 8; t++)
        if (t < group_tokens) {
            float total = subgroupAdd(sum[t]);
            if (lane == 0 && token0 + t < a.tokens) F32(a.y + (uint64_t(token0 + t) * a.y_cols + a.y_first) * 4).v[row] = total;
        }
}

#version 460
//! variant packed_linear_rows
// One lane per row: x is the same for all lanes, which is what a CPU driver loads fast, and nothing is summed across lanes.
#include "common.glsl"
#include "args/packed_linear.h"
#include "ops/packed.glsl"
layout(push_constant, scalar) uniform Push { PackedLinearArgs a; };
layout(constant_id = 1) const uint group_tokens = 1;   // at most 8
layout(constant_id = 3) const bool whole_runs = true;  // 32 divides block_size: a run has one scale, and its words are aligned
#define UNROLL [[unroll]]

void main() {
    uint row = invocation_index(), token0 = gl_WorkGroupID.z * group_tokens;
    bool inside = row < a.out_rows;
    row = min(row, a.out_rows - 1);
    load_table(a.centroids);
    uint64_t row_address = a.indices + uint64_t(row) * a.row_bytes;
    U16 scales = U16(a.scales + uint64_t(row) * (a.in_cols / a.block_size) * 2);
    uint64_t x_address[8], y_address[8];
    float sum[8];
    bool store[8];
    UNROLL for (uint t = 0; t < 8; t++)
        if (t < group_tokens) {
            uint token = min(token0 + t, a.tokens - 1);
            x_address[t] = a.x + uint64_t(token) * a.in_cols * 4;
            y_address[t] = a.y + (uint64_t(token) * a.y_cols + a.y_first) * 4;
            store[t] = inside && token0 + t < a.tokens;
            sum[t] = 0.0;
        }
    uint i0 = 0;
    if (whole_runs) {
        do {
            uint word[8];
            UNROLL for (uint i = 0; i < 8; i++)
                if (i < bits) word[i] = big_endian(U32(row_address + uint64_t(i0 / 32) * bits * 4).v[i]);
            float scale_of_run = bf16_to_float(scales.v[i0 / a.block_size]);
            float part[8];
            UNROLL for (uint t = 0; t < 8; t++)
                if (t < group_tokens) part[t] = 0.0;
            UNROLL for (uint i = 0; i < 32; i++) {
                float c = centroid_of(a.centroids, INDEX_OF(word, i));
                UNROLL for (uint t = 0; t < 8; t++)
                    if (t < group_tokens) part[t] += c * F32(x_address[t] + uint64_t(i0) * 4).v[i];
            }
            UNROLL for (uint t = 0; t < 8; t++)
                if (t < group_tokens) sum[t] += part[t] * scale_of_run;
            i0 += 32;
        } while (i0 < a.in_cols);
    } else {
        do {
            float w = centroid_of(a.centroids, index_at(row_address, i0)) * bf16_to_float(scales.v[i0 / a.block_size]);
            UNROLL for (uint t = 0; t < 8; t++)
                if (t < group_tokens) sum[t] += w * F32(x_address[t]).v[i0];
            i0++;
        } while (i0 < a.in_cols);
    }
    UNROLL for (uint t = 0; t < 8; t++)
        if (t < group_tokens && store[t]) F32(y_address[t]).v[row] = sum[t];
}

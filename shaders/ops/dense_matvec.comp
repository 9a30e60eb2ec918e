#version 460
//! variant dense_matvec_f32 BYTES=4
//! variant dense_matvec_f16 BYTES=2
//! variant dense_matvec_bf16 BYTES=2 BRAIN=true
// y = x W^T for few tokens, W [out, in] as it is stored. KSPLIT subgroups share ROWS rows; lanes run along the columns, 16 bytes of a
// row each. x lies in shared memory, in fp32. With SWIGLU half of the rows are gate rows and the others the up rows in the same
// places. Grid: (out / (rows of a workgroup), 1, groups of TOKENS).
#include "common.glsl"
#include "args/dense_matvec.h"
layout(push_constant, scalar) uniform Push { DenseMatvecArgs a; };
layout(constant_id = 1) const uint TOKENS = 1;  // at most 8
layout(constant_id = 2) const uint ROWS = 2;    // at most 8; even with SWIGLU
layout(constant_id = 3) const uint KSPLIT = 1;
layout(constant_id = 4) const uint DEPTH = 2;    // chunks of a row on their way
layout(constant_id = 5) const uint SLAB = 4096;  // columns of x in shared memory: a multiple of CHUNK * lanes * KSPLIT * DEPTH
layout(constant_id = 6) const uint LANES = 32;   // subgroup size
layout(constant_id = 7) const uint NORM = 0;
layout(constant_id = 8) const bool VECTOR = true;
layout(constant_id = 9) const bool SWIGLU = false;
layout(constant_id = 10) const bool STAGED = true;  // x through shared memory; otherwise every subgroup reads it from the caches
#define UNROLL [[unroll]]
#include "ops/linear_input.glsl"

#ifndef BRAIN
#define BRAIN false
#endif
const uint CHUNK = 16 / BYTES;  // columns in 16 bytes
const uint SUBGROUPS = gl_WorkGroupSize.x / LANES;
const uint STRIDE = KSPLIT * LANES;  // chunks side by side
const uint EACH = SLAB / CHUNK / STRIDE;

shared vec4 xs[STAGED ? TOKENS * SLAB / 4 : 1];  // chunk's first four columns of all chunks, then their second four
shared float partial[SUBGROUPS * ROWS * TOKENS];
shared float squares[TOKENS * SUBGROUPS];

uint token0;

// All loads before the first store, so that their latencies overlap.
const uint QUADS = (SLAB / 4 + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
void stage(uint first, inout float square[TOKENS]) {
    UNROLL for (uint t = 0; t < TOKENS; t++) {
        const uint64_t row = a.x + uint64_t(min(token0 + t, a.tokens - 1)) * a.in_cols * 4;
        vec4 x[QUADS], weight[QUADS];
        UNROLL for (uint k = 0; k < QUADS; k++) {
            const uint column = first + 4 * (gl_LocalInvocationIndex + k * gl_WorkGroupSize.x);
            x[k] = load_columns(row, column, a.in_cols);
            weight[k] = load_norm(a.norm, column, a.in_cols);
        }
        UNROLL for (uint k = 0; k < QUADS; k++) {
            const uint i = gl_LocalInvocationIndex + k * gl_WorkGroupSize.x;
            if (i < SLAB / 4) {
                if (NORM != 0) {
                    square[t] += dot(x[k], x[k]);
                    x[k] *= weight[k];
                }
                const uint at = CHUNK == 4 ? i : i / 2 + i % 2 * (SLAB / 8);
                xs[t * (SLAB / 4) + at] = x[k];
            }
        }
    }
}

vec4 direct_columns(uint t, uint column, inout float square) {
    vec4 x = load_columns(a.x + uint64_t(min(token0 + t, a.tokens - 1)) * a.in_cols * 4, column, a.in_cols);
    if (NORM == 0) return x;
    square += dot(x, x);
    return x * load_norm(a.norm, column, a.in_cols);
}

float value(uvec4 chunk, uint i) {
#if BYTES == 4
    return uintBitsToFloat(chunk[i]);
#else
    const uint word = chunk[i / 2];
    if (BRAIN) return uintBitsToFloat(i % 2 == 0 ? word << 16 : word & 0xffff0000u);
    return float(unpackFloat2x16(word)[i % 2]);
#endif
}

void main() {
    const uint subgroup = gl_SubgroupID, lane = gl_SubgroupInvocationID;
    const uint part = subgroup % KSPLIT, group = subgroup / KSPLIT;
    token0 = gl_WorkGroupID.z * TOKENS;
    const uint rows_each = SWIGLU ? ROWS / 2 : ROWS;  // rows of y
    const uint out_rows = SWIGLU ? a.out_rows / 2 : a.out_rows;
    const uint row0 = (workgroup_index() * (SUBGROUPS / KSPLIT) + group) * rows_each;
    if (workgroup_index() * (SUBGROUPS / KSPLIT) * rows_each >= out_rows) return;
    const uint chunks = a.in_cols / CHUNK, slabs = (a.in_cols + SLAB - 1) / SLAB;
    uint64_t weights[ROWS];
    UNROLL for (uint r = 0; r < ROWS; r++) {
        const uint row = min(row0 + r % rows_each, out_rows - 1) + r / rows_each * out_rows;
        weights[r] = a.weight + uint64_t(row) * a.in_cols * BYTES;
    }
    uvec4 w[DEPTH * ROWS];
    float total[ROWS * TOKENS], square[TOKENS];
    UNROLL for (uint i = 0; i < ROWS * TOKENS; i++) total[i] = 0;
    UNROLL for (uint t = 0; t < TOKENS; t++) square[t] = 0;
    const uint first = part * LANES + lane;
    UNROLL for (uint d = 0; d < DEPTH; d++)
        if (first + d * STRIDE < chunks)
            UNROLL for (uint r = 0; r < ROWS; r++) w[d * ROWS + r] = U32x4(weights[r]).v[first + d * STRIDE];
    for (uint slab = 0; slab < slabs; slab++) {
        if (STAGED) {
            if (slab != 0) barrier();
            stage(slab * SLAB, square);
            barrier();
        }
        for (uint n = 0; n < EACH; n += DEPTH) {
            UNROLL for (uint d = 0; d < DEPTH; d++) {
                const uint in_slab = (n + d) * STRIDE + first, chunk = slab * (SLAB / CHUNK) + in_slab;
                if (chunk < chunks) {
                    UNROLL for (uint t = 0; t < TOKENS; t++) {
                        vec4 x0, x1 = vec4(0);
                        if (STAGED) {
                            x0 = xs[t * (SLAB / 4) + in_slab];
                            if (CHUNK == 8) x1 = xs[t * (SLAB / 4) + SLAB / 8 + in_slab];
                        } else {
                            x0 = direct_columns(t, chunk * CHUNK, square[t]);
                            if (CHUNK == 8) x1 = direct_columns(t, chunk * CHUNK + 4, square[t]);
                        }
                        UNROLL for (uint r = 0; r < ROWS; r++) {
                            float sum = total[r * TOKENS + t];
                            UNROLL for (uint i = 0; i < 4; i++) sum = fma(value(w[d * ROWS + r], i), x0[i], sum);
                            if (CHUNK == 8) UNROLL for (uint i = 0; i < 4; i++) sum = fma(value(w[d * ROWS + r], 4 + i), x1[i], sum);
                            total[r * TOKENS + t] = sum;
                        }
                    }
                    if (chunk + DEPTH * STRIDE < chunks)
                        UNROLL for (uint r = 0; r < ROWS; r++) w[d * ROWS + r] = U32x4(weights[r]).v[chunk + DEPTH * STRIDE];
                }
            }
        }
    }
    UNROLL for (uint i = 0; i < ROWS * TOKENS; i++) {
        const float sum = subgroupAdd(total[i]);
        if (lane == 0) partial[subgroup * ROWS * TOKENS + i] = sum;
    }
    if (NORM != 0) UNROLL for (uint t = 0; t < TOKENS; t++) {
        const float sum = subgroupAdd(square[t]);
        if (lane == 0) squares[t * SUBGROUPS + subgroup] = sum;
    }
    barrier();
    // Invocation: (group of subgroups, row of y, token).
    const uint results = SUBGROUPS / KSPLIT * rows_each * TOKENS;
    for (uint id = gl_LocalInvocationIndex; id < results; id += gl_WorkGroupSize.x) {
        const uint t = id % TOKENS, r = id / TOKENS % rows_each, of = id / TOKENS / rows_each;
        const uint row = (workgroup_index() * (SUBGROUPS / KSPLIT) + of) * rows_each + r;
        float sum = 0, up = 0, inv_rms = 1;
        for (uint p = 0; p < KSPLIT; p++) {
            const uint from = (of * KSPLIT + p) * ROWS * TOKENS;
            sum += partial[from + r * TOKENS + t];
            if (SWIGLU) up += partial[from + (r + rows_each) * TOKENS + t];
        }
        if (NORM != 0) {
            float all = 0;
            if (STAGED)
                for (uint s = 0; s < SUBGROUPS; s++) all += squares[t * SUBGROUPS + s];
            else
                for (uint s = 0; s < KSPLIT; s++) all += squares[t * SUBGROUPS + of * KSPLIT + s];
            inv_rms = 1 / sqrt(all / float(a.in_cols) + a.eps);
        }
        sum *= inv_rms;
        if (SWIGLU) sum = silu(sum) * (up * inv_rms);
        if (row < out_rows && token0 + t < a.tokens) {
            const uint64_t at = uint64_t(token0 + t) * out_rows * 4;
            if (a.residual != 0) sum += F32(a.residual + at).v[row];
            F32(a.y + at).v[row] = sum;
        }
    }
}

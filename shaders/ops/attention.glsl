// What the attention kernels share: a row of head_dim floats is held by SPLIT neighbouring lanes, in chunks of four; chunk i of
// a lane covers the dimensions from 4 * (i * SPLIT + part) on. CPUs use SPLIT = 1: a row a lane, so that the rows of the other
// side are the same for all lanes and their loads are scalar.
#include "common.glsl"
#include "ops/dot_add.glsl"
layout(constant_id = 1) const uint HEAD_DIM = 64;
layout(constant_id = 2) const uint SPLIT = 1;  // power of two; 1 unless it divides HEAD_DIM / 4
layout(constant_id = 3) const uint ROWS = 1;   // rows a lane (with its neighbours) works on
layout(constant_id = 4) const uint STEP = 4;   // rows of the other side per iteration
layout(constant_id = 5) const bool VECTOR = false;  // rows are aligned to 16 bytes: load vec4
layout(constant_id = 6) const bool DOCUMENTS = false;  // a constant: CPU drivers run uniform loads behind any other condition
layout(constant_id = 7) const bool COUNTED = false;  // the number of valid rows is in a buffer
// Subgroups of a workgroup, which have the same rows and share the other side.
#ifdef SEVERAL_WAYS
layout(constant_id = 8) const uint WAYS = 1;
#else
const uint WAYS = 1;
#endif
const uint CHUNKS = (HEAD_DIM / SPLIT + 3) / 4;
const uint LANES = gl_WorkGroupSize.x / WAYS;
const uint PER_ROW = LANES / SPLIT;  // rows side by side in a subgroup
const uint TILE = PER_ROW * ROWS;    // rows of a workgroup
#define UNROLL [[unroll]]
#define LOG2E 1.4426950408889634

// Chunk i of the row at this address. HEAD_DIM is even: where four do not divide it, the last chunk is half zero.
vec4 load_chunk(uint64_t row, uint i, uint part) {
    if (VECTOR) return F32x4(row).v[i * SPLIT + part];
    const uint d = 4 * (i * SPLIT + part);
    vec4 x = vec4(0);
    x.x = F32(row).v[d];
    x.y = F32(row).v[d + 1];
    if (HEAD_DIM % 4 == 0 || i + 1 < CHUNKS) {
        x.z = F32(row).v[d + 2];
        x.w = F32(row).v[d + 3];
    }
    return x;
}

void store_chunk(uint64_t row, uint i, uint part, vec4 x) {
    if (VECTOR) {
        F32x4(row).v[i * SPLIT + part] = x;
        return;
    }
    const uint d = 4 * (i * SPLIT + part);
    F32(row).v[d] = x.x;
    F32(row).v[d + 1] = x.y;
    if (HEAD_DIM % 4 == 0 || i + 1 < CHUNKS) {
        F32(row).v[d + 2] = x.z;
        F32(row).v[d + 3] = x.w;
    }
}

// The same from a row of the key-value cache, f32, f16 or bf16.
vec4 load_cached_f32(uint64_t row, uint i, uint part) { return load_chunk(row, i, part); }
vec4 load_cached_f16(uint64_t row, uint i, uint part) {
    if (VECTOR) {
        const uvec2 x = U32x2(row).v[i * SPLIT + part];
        return vec4(unpackHalf2x16(x.x), unpackHalf2x16(x.y));
    }
    const uint d = 4 * (i * SPLIT + part);
    vec4 x = vec4(F16(row).v[d], F16(row).v[d + 1], 0, 0);
    if (HEAD_DIM % 4 == 0 || i + 1 < CHUNKS) x.zw = vec2(F16(row).v[d + 2], F16(row).v[d + 3]);
    return x;
}
vec4 load_cached_bf16(uint64_t row, uint i, uint part) {
    if (VECTOR) {
        const uvec2 x = U32x2(row).v[i * SPLIT + part];
        return uintBitsToFloat(uvec4(x.x << 16, x.x & 0xffff0000u, x.y << 16, x.y & 0xffff0000u));
    }
    const uint d = 4 * (i * SPLIT + part);
    vec4 x = vec4(bf16_to_float(U16(row).v[d]), bf16_to_float(U16(row).v[d + 1]), 0, 0);
    if (HEAD_DIM % 4 == 0 || i + 1 < CHUNKS) x.zw = vec2(bf16_to_float(U16(row).v[d + 2]), bf16_to_float(U16(row).v[d + 3]));
    return x;
}
#define LOAD_CACHED(type, row, i, part) CONCAT(load_cached_, type)(row, i, part)

// Sum over the lanes that share a row.
float row_sum(float x) {
    UNROLL for (uint m = 1; m < SPLIT; m *= 2) x += subgroupShuffleXor(x, m);
    return x;
}

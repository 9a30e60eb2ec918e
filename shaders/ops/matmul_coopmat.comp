#version 460
//! variant coopmat_f16 needs=coopmat
//! variant coopmat_bf16 needs=coopmat,bfloat16 BFLOAT=1
// c = base + a b on matrix units; a and b f32, f16 or bf16, each along k or across it.
#pragma use_vulkan_memory_model
#include "common.glsl"
#include "args/matmul.h"
layout(push_constant, scalar) uniform Push { MatmulArgs p; };
layout(constant_id = 19) const bool SCALED = false;
layout(constant_id = 20) const uint B_TYPE = 0;
layout(constant_id = 21) const bool B_BY_K = true;
layout(constant_id = 22) const bool ALIGNED_B = false;

#define A_ADDRESS p.a
#define BASE_ADDRESS p.base
#define C_ADDRESS p.c
#define SIZE_M p.m
#define SIZE_K p.k
#define K_PART p.k_part
#define C_STRIDE p.c_cols
#define N_TILES ((p.n + BLOCK_N - 1) / BLOCK_N)
#define B_LINES (B_BY_K ? BLOCK_N : BLOCK_K)
#define B_LENGTH (B_BY_K ? BLOCK_K : BLOCK_N)
#define B_CHUNKS ((B_LINES * B_LENGTH / 8 + THREADS - 1) / THREADS)
#define B_EXACT (B_LINES * B_LENGTH / 8 % THREADS == 0)
#define B_BEGIN(tile)                                                                                        \
    const uint n0 = (tile) * BLOCK_N;                                                                        \
    uint64_t b_at = OPERAND_START(p.b, n0, B_BY_K, B_TYPE);                                                  \
    const uint64_t b_advance = OPERAND_ADVANCE(p.n, B_BY_K, B_TYPE);                                         \
    b_at += b_advance * (k_begin / BLOCK_K);                                                                 \
    uint b_offset[B_CHUNKS];                                                                                 \
    UNROLL for (uint i = 0; i < B_CHUNKS; ++i)                                                               \
        b_offset[i] = chunk_offset(PLACE(i, B_LINES, B_LENGTH), B_LINES, n0, p.n, B_BY_K, B_TYPE);           \
    Chunk b[B_CHUNKS];
#define B_NEXT(k0)                                                                                                         \
    FETCH_OPERAND(b, b_at, b_offset, B_CHUNKS, p.b, B_LINES, B_LENGTH, n0, p.n, B_BY_K, B_TYPE, ALIGNED_B, k0)             \
    b_at += b_advance;
#define B_PUT PUT_OPERAND(b, B_CHUNKS, B_EXACT, B_AT, B_STRIDE, B_LINES, B_LENGTH, B_TYPE)
#define C_COLUMN (p.c_first + n0)
#define C_COLUMNS (p.n - n0)
#define ROW_SCALES p.factors
#include "matmul_units.glsl"

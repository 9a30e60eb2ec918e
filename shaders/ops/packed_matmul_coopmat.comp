#version 460
//! variant packed_matmul_f16 needs=coopmat
//! variant packed_matmul_bf16 needs=coopmat,bfloat16 BFLOAT=1
// y = residual + x W^T on matrix units, W packed: its weights are looked up on their way into shared memory. An invocation takes
// 32 columns of a row of W at a time: the words of the step after the next are on their way while the next one's become weights
// and the present one's are multiplied. A block of columns of y lies within one part of W.
#pragma use_vulkan_memory_model
#include "common.glsl"
#include "args/packed_matmul.h"
layout(push_constant, scalar) uniform Push { PackedMatmulArgs p; };
layout(constant_id = 19) const bool SCALED = false;  // rows of y have factors
layout(constant_id = 20) const uint BITS = 4;
layout(constant_id = 21) const uint BLOCK_RUNS = 1;  // a scale's columns / 32
layout(constant_id = 22) const uint COPIES = 1;      // of the table, for neighbouring invocations
#include "ops/packed.glsl"

#define A_ADDRESS p.x
#define BASE_ADDRESS p.residual
#define C_ADDRESS p.y
#define SIZE_M p.tokens
#define SIZE_K p.in_cols
#define C_STRIDE p.y_cols
#define ROW_SCALES p.factors
#define BLOCKS_OF(rows) ((rows + BLOCK_N - 1) / BLOCK_N)
#define N_TILES (BLOCKS_OF(p.rows_0) + BLOCKS_OF(p.rows_1) + BLOCKS_OF(p.rows_2))
#define B_BY_K true
#define B_LINES BLOCK_N
#define B_LENGTH BLOCK_K

// The table: fp16 weights of two neighbouring columns, or of one; for bf16 products fp32 ones.
#ifdef BFLOAT
const bool PAIRS = false;
#else
const bool PAIRS = BITS <= 3;
#endif
const uint ENTRIES = 1u << (PAIRS ? 2 * BITS : BITS);
shared uint table[ENTRIES * COPIES];
// f16: weights are kept as larger numbers, whose neighbours lie closer; the rows' factors make up for it.
const float WEIGHT_FACTOR = SCALED ? 128.0 : 1.0;

uint table_entry(uint64_t centroids, uint e) {
    const float low = F32(centroids).v[e & INDEX_MASK] * WEIGHT_FACTOR;
#ifdef BFLOAT
    return floatBitsToUint(low);
#else
    return packFloat2x16(f16vec2(vec2(low, PAIRS ? F32(centroids).v[(e >> BITS) & INDEX_MASK] * WEIGHT_FACTOR : 0.0)));
#endif
}
#define ENTRY(e) table[(e) * COPIES + gl_LocalInvocationIndex % COPIES]
// Index of column k of a run of 32, and of the columns 2 i and 2 i + 1 together.
#define RUN_INDEX(word, first, k)                                                                                           \
    ((BITS == 3 ? ((k) < 30 ? word[first + (k) / 10] >> ((k) % 10 * 3)                                                      \
                            : last_pair(word[first], word[first + 1], word[first + 2]) >> ((k) % 2 * 3))                    \
                : word[first + (k) * BITS / 32] >> ((k) * BITS % 32)) & INDEX_MASK)
#define RUN_PAIR(word, first, i)                                                                                            \
    (BITS == 3 ? ((i) < 15 ? word[first + (i) / 5] >> ((i) % 5 * 6) & 63u                                                   \
                           : last_pair(word[first], word[first + 1], word[first + 2]))                                      \
               : word[first + 2 * (i) * BITS / 32] >> (2 * (i) * BITS % 32) & ((1u << 2 * BITS) - 1u))

#ifdef BFLOAT
#define WEIGHTS(word, first, i, s)                                                          \
    pack2(s * vec2(uintBitsToFloat(ENTRY(RUN_INDEX(word, first, 2 * (i)))),                 \
                   uintBitsToFloat(ENTRY(RUN_INDEX(word, first, 2 * (i) + 1)))))
#else
#define WEIGHTS(word, first, i, s)                                                                                       \
    packFloat2x16(unpackFloat2x16(PAIRS ? ENTRY(RUN_PAIR(word, first, i))                                                \
                                        : ENTRY(RUN_INDEX(word, first, 2 * (i))) |                                       \
                                              ENTRY(RUN_INDEX(word, first, 2 * (i) + 1)) << 16) * f16vec2(float16_t(s)))
#endif

// An invocation's units: a row of the block and 32 columns of the step, whose neighbours are those of neighbouring invocations.
#define RUNS (BLOCK_K / 32)
#define UNITS ((BLOCK_N * RUNS + THREADS - 1) / THREADS)
#define UNIT(i) (gl_LocalInvocationIndex + (i) * THREADS)
#define UNIT_ROW(i) (UNIT(i) / RUNS % BLOCK_N)
#define UNIT_RUN(i) (UNIT(i) % RUNS)
#define FETCH_WORDS(k0)                                                                                                    \
    UNROLL for (uint i = 0; i < UNITS; ++i) {                                                                              \
        const uint run = min((k0) / 32 + UNIT_RUN(i), runs - 1);                                                           \
        const uint64_t at = words_start + (words_at[i] + run * 16);                                                        \
        if (BITS == 4 || BITS == 8) {                                                                                      \
            UNROLL for (uint j = 0; j < BITS / 4; ++j) {                                                                   \
                const uvec4 q = U32x4(at + j * runs * 16).v[0];                                                            \
                UNROLL for (uint e = 0; e < 4; ++e) words[i * BITS + 4 * j + e] = q[e];                                    \
            }                                                                                                              \
        } else if (BITS == 2) {                                                                                            \
            const uvec2 q = U32x2(at).v[0];                                                                                \
            words[i * BITS] = q.x;                                                                                         \
            words[i * BITS + 1] = q.y;                                                                                     \
        } else if (BITS == 3) {                                                                                            \
            UNROLL for (uint j = 0; j < 3; ++j) {                                                                          \
                const uint n = UNIT_ROW(i) % 4 * 3 + j;                                                                    \
                words[i * BITS + j] = U32(at + (n / 4 * runs * 16 + n % 4 * 4)).v[0];                                      \
            }                                                                                                              \
        } else {                                                                                                           \
            words[i] = U32(at).v[0];                                                                                       \
        }                                                                                                                  \
        scale[i] = U16(scales_start + (scales_at[i] + min(run / BLOCK_RUNS, blocks - 1) * 8)).v[0];                        \
    }

#define B_BEGIN(block)                                                                                                     \
    uint part = 0, part_column = p.y_first, first_tile = 0, rows_of_part = p.rows_0, in_part = block;                      \
    if (in_part >= BLOCKS_OF(p.rows_0)) {                                                                                  \
        in_part -= BLOCKS_OF(p.rows_0);                                                                                    \
        part = 1, part_column += p.rows_0, first_tile = p.tiles_1, rows_of_part = p.rows_1;                                \
        if (in_part >= BLOCKS_OF(p.rows_1)) {                                                                              \
            in_part -= BLOCKS_OF(p.rows_1);                                                                                \
            part = 2, part_column += p.rows_1, first_tile = p.tiles_2, rows_of_part = p.rows_2;                            \
        }                                                                                                                  \
    }                                                                                                                      \
    const uint n0 = in_part * BLOCK_N, runs = runs_of(SIZE_K), blocks = SIZE_K / 32 / BLOCK_RUNS;                          \
    const uint last_tile = (rows_of_part - n0 - 1) / TILE_ROWS; /* of the block's */                                       \
    first_tile += n0 / TILE_ROWS;                                                                                          \
    const uint64_t words_start = quad_address(p.indices, first_tile * TILE_ROWS, runs);                                    \
    const uint64_t scales_start = scale_address(p.scales, first_tile * TILE_ROWS, 0, blocks);                              \
    uint words_at[UNITS], scales_at[UNITS], words[UNITS * BITS];                                                           \
    uint16_t scale[UNITS];                                                                                                 \
    uvec4 weights[UNITS * 4];                                                                                              \
    UNROLL for (uint i = 0; i < UNITS; ++i) {                                                                              \
        const uint row = UNIT_ROW(i), tile = min(row / TILE_ROWS, last_tile), r = row % TILE_ROWS;                         \
        words_at[i] = (tile * 8 + r / 4) * runs * (BITS * 16);                                                             \
        if (BITS != 3) words_at[i] += r % 4 * BITS / 4 * runs * 16 + r % 4 * BITS % 4 * 4;                                 \
        scales_at[i] = (tile * 8 + r / 4) * blocks * 8 + r % 4 * 2;                                                        \
    }                                                                                                                      \
    FETCH_WORDS(0)                                                                                                         \
    for (uint e = gl_LocalInvocationIndex; e < ENTRIES * COPIES; e += THREADS)                                             \
        table[e] = table_entry(p.centroids + part * ((INDEX_MASK + 1) * 4), e / COPIES);                                   \
    barrier();

#define B_NEXT(k0)                                                                                                         \
    UNROLL for (uint i = 0; i < UNITS; ++i) {                                                                              \
        const float s = bf16_to_float(scale[i]);                                                                           \
        UNROLL for (uint j = 0; j < 16; ++j) weights[i * 4 + j / 4][j % 4] = WEIGHTS(words, i * BITS, j, s);               \
    }                                                                                                                      \
    FETCH_WORDS((k0 + BLOCK_K))

#define B_PUT                                                                                                              \
    UNROLL for (uint i = 0; i < UNITS; ++i) {                                                                              \
        if (BLOCK_N * RUNS % THREADS == 0 || UNIT(i) < BLOCK_N * RUNS) {                                                   \
            UNROLL for (uint j = 0; j < 4; ++j)                                                                            \
                tiles[B_AT + UNIT_ROW(i) * B_STRIDE + UNIT_RUN(i) * 4 + j] = weights[i * 4 + j];                           \
        }                                                                                                                  \
    }
#define C_COLUMN (part_column + n0)
#define C_COLUMNS (rows_of_part - n0)
#include "matmul_units.glsl"

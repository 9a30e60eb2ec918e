// What the attention kernels on matrix units share (VK_KHR_cooperative_matrix; runtime/ops/attention_units.h).
//
// A workgroup owns ROWS rows: of queries, or of keys. It walks over the rows of the other side, STEP at a time, which are staged
// in shared memory; all products are made of TILE_M x TILE_N x TILE_K matrices. A subgroup computes the scores of its own R rows
// and the STEP others, puts them into a region of shared memory, where its lanes, each with a row or a part of one, turn them
// into the weights of the next product: where an element lies within a cooperative matrix, only memory tells.
//
// The weights take the place of the scores: the 16-bit elements of TILE_K columns begin where the fp32 ones began. A lane reads
// what it overwrites, so that no barrier is needed between.
#include "ops/matrix_types.glsl"
layout(constant_id = 1) const uint HEAD_DIM = 64;  // a multiple of TILE_N, TILE_K and 8
layout(constant_id = 2) const uint STEP = 32;      // rows of the other side per iteration: a multiple of TILE_N and TILE_K
layout(constant_id = 3) const uint GROUPS = 4;     // subgroups
layout(constant_id = 4) const uint BLOCKS = 2;     // matrices of a subgroup along its rows: a power of two
layout(constant_id = 5) const uint HEADS = 1;      // heads of a group whose queries lie in one tile
layout(constant_id = 6) const uint TILE_M = 16;
layout(constant_id = 7) const uint TILE_N = 16;
layout(constant_id = 8) const uint TILE_K = 16;
layout(constant_id = 9) const bool RESIDENT = true;  // the rows' own matrices stay in registers
layout(constant_id = 10) const bool PREFETCH = true;  // the next step is fetched while the present one is computed
layout(constant_id = 12) const bool DOCUMENTS = false;
layout(constant_id = 13) const bool HAS_BASE = false;  // gradients: something to add to
// A subgroup's lanes run in step anyway. CPU drivers take a subgroup's barrier for one of the workgroup, which some subgroups miss.
layout(constant_id = 11) const bool IN_STEP = false;
#define THREADS gl_WorkGroupSize.x
#define LOG2E 1.4426950408889634

const uint LANES = gl_WorkGroupSize.x / GROUPS;
const uint R = BLOCKS * TILE_M;
const uint DEPTHS = HEAD_DIM / TILE_K, WIDTHS = HEAD_DIM / TILE_N;
const uint STEP_N = STEP / TILE_N, STEP_K = STEP / TILE_K;
// In shared memory, in units of 16 bytes; a unit more to a line spreads lines over the banks.
const uint CHUNKS = HEAD_DIM / 8, LINE = CHUNKS + 1;
const uint SCORE_LINE = STEP / 4 + 1, REGION = R * SCORE_LINE;
const uint TILE_SIZE = STEP * LINE;
// Of a tile of the other side, an invocation has FETCHES chunks of 8 elements.
const uint FETCHES = (STEP * CHUNKS + THREADS - 1) / THREADS;
const bool EXACT = STEP * CHUNKS % THREADS == 0;

#define MATRIX_A coopmat<ELEMENT, gl_ScopeSubgroup, TILE_M, TILE_K, gl_MatrixUseA>
#define MATRIX_B coopmat<ELEMENT, gl_ScopeSubgroup, TILE_K, TILE_N, gl_MatrixUseB>
#define MATRIX_C coopmat<float, gl_ScopeSubgroup, TILE_M, TILE_N, gl_MatrixUseAccumulator>

// What a lane writes is what the other lanes of its subgroup read.
void meet_subgroup() {
    if (IN_STEP) memoryBarrier(gl_ScopeSubgroup, gl_StorageSemanticsShared, gl_SemanticsAcquireRelease);
    else controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared, gl_SemanticsAcquireRelease);
}

Chunk fetch(uint64_t at, uint type) { return fetch_chunk(at, at, true, type); }
#define PLACE_ROW(i) ((gl_LocalInvocationIndex + (i) * THREADS) / CHUNKS)
#define PLACE_CHUNK(i) ((gl_LocalInvocationIndex + (i) * THREADS) % CHUNKS)
// Rows `first` on of the other side; beyond `end` its last row.
#define FETCH(chunks, address, stride, first, end, type)      \
    UNROLL for (uint i = 0; i < FETCHES; ++i) chunks[i] =     \
        fetch((address) + min((first) + PLACE_ROW(i), (end) - 1) * (stride) + PLACE_CHUNK(i) * (8 * bytes_of(type)), type);
#define PUT(chunks, at, type)                  \
    UNROLL for (uint i = 0; i < FETCHES; ++i)  \
        if (EXACT || PLACE_ROW(i) < STEP) memory[(at) + PLACE_ROW(i) * LINE + PLACE_CHUNK(i)] = pack_chunk(chunks[i], type);
// The workgroup's own rows: `address` may use `row`.
#define STAGE(at, rows, address, type)                                                                        \
    for (uint n = gl_LocalInvocationIndex; n < (rows) * CHUNKS; n += THREADS) {                               \
        const uint row = n / CHUNKS, chunk = n % CHUNKS;                                                      \
        memory[(at) + row * LINE + chunk] = pack_chunk(fetch((address) + chunk * (8 * bytes_of(type)), type), type); \
    }
// A subgroup's own matrices from row0 of what is staged.
#define LOAD_OWN(own, at, row0)                  \
    UNROLL for (uint i = 0; i < BLOCKS; ++i)     \
        UNROLL for (uint d = 0; d < DEPTHS; ++d) \
            coopMatLoad(own[i * DEPTHS + d], memory, (at) + ((row0) + i * TILE_M) * LINE + d * (TILE_K / 8), LINE, gl_CooperativeMatrixLayoutRowMajor);

// Own rows times the other side's transposed, to the region at `to`.
#define SCORES(to, own, own_at, row0, other_at)                                                                                   \
    {                                                                                                                             \
        MATRIX_C s[BLOCKS * STEP_N];                                                                                              \
        UNROLL for (uint i = 0; i < BLOCKS * STEP_N; ++i) s[i] = MATRIX_C(0.0);                                                   \
        UNROLL for (uint d = 0; d < DEPTHS; ++d) {                                                                                \
            MATRIX_A rows[BLOCKS];                                                                                                \
            UNROLL for (uint i = 0; i < BLOCKS; ++i) {                                                                            \
                if (RESIDENT) rows[i] = own[i * DEPTHS + d];                                                                      \
                else coopMatLoad(rows[i], memory, (own_at) + ((row0) + i * TILE_M) * LINE + d * (TILE_K / 8), LINE, gl_CooperativeMatrixLayoutRowMajor); \
            }                                                                                                                     \
            UNROLL for (uint n = 0; n < STEP_N; ++n) {                                                                            \
                MATRIX_B other;                                                                                                   \
                coopMatLoad(other, memory, (other_at) + n * TILE_N * LINE + d * (TILE_K / 8), LINE, gl_CooperativeMatrixLayoutColumnMajor); \
                UNROLL for (uint i = 0; i < BLOCKS; ++i) s[i * STEP_N + n] = coopMatMulAdd(rows[i], other, s[i * STEP_N + n]);    \
            }                                                                                                                     \
        }                                                                                                                         \
        UNROLL for (uint i = 0; i < BLOCKS; ++i)                                                                                  \
            UNROLL for (uint n = 0; n < STEP_N; ++n)                                                                              \
                coopMatStore(s[i * STEP_N + n], memory, (to) + i * TILE_M * SCORE_LINE + n * (TILE_N / 4), SCORE_LINE, gl_CooperativeMatrixLayoutRowMajor); \
    }
// sums += weights in the region at `from` times the other side.
#define WEIGHTED(sums, from, other_at)                                                                                            \
    UNROLL for (uint k = 0; k < STEP_K; ++k) {                                                                                    \
        MATRIX_A weights[BLOCKS];                                                                                                 \
        UNROLL for (uint i = 0; i < BLOCKS; ++i)                                                                                  \
            coopMatLoad(weights[i], memory, (from) + i * TILE_M * SCORE_LINE + k * (TILE_K / 4), SCORE_LINE, gl_CooperativeMatrixLayoutRowMajor); \
        UNROLL for (uint j = 0; j < WIDTHS; ++j) {                                                                                \
            MATRIX_B other;                                                                                                       \
            coopMatLoad(other, memory, (other_at) + k * TILE_K * LINE + j * (TILE_N / 8), LINE, gl_CooperativeMatrixLayoutRowMajor); \
            UNROLL for (uint i = 0; i < BLOCKS; ++i) sums[i * WIDTHS + j] = coopMatMulAdd(weights[i], other, sums[i * WIDTHS + j]); \
        }                                                                                                                         \
    }
// Where 8 weights lie in a region's row, from their first column.
uint weights_place(uint column) { return column / TILE_K * (TILE_K / 4) + column % TILE_K / 8; }

// 8 finite numbers as operands, to the nearest; ties away from zero with bf16, which saves half of the arithmetic.
uvec4 pack_weights(vec4 low, vec4 high) {
#ifdef BFLOAT
    const uvec4 l = floatBitsToUint(low) + 0x8000u, h = floatBitsToUint(high) + 0x8000u;
    return uvec4(l.x >> 16 | (l.y & 0xffff0000u), l.z >> 16 | (l.w & 0xffff0000u), h.x >> 16 | (h.y & 0xffff0000u), h.z >> 16 | (h.w & 0xffff0000u));
#else
    return pack8(low, high);
#endif
}

// Rows of block i of `sums` to address `to`, `stride` floats apart; of its TILE_M rows `exist` exist and `valid` hold something,
// the others become 0. `scratch`: the subgroup's region.
#define STORE_BLOCK(sums, i, base, to, stride, exist, valid, scratch, lane)                                                        \
    if ((valid) >= int(TILE_M)) {                                                                                                  \
        UNROLL for (uint j = 0; j < WIDTHS; ++j) {                                                                                 \
            if (HAS_BASE) {                                                                                                        \
                MATRIX_C before;                                                                                                   \
                coopMatLoad(before, F32x4((base) + j * TILE_N * 4).v, 0, (stride) / 4, gl_CooperativeMatrixLayoutRowMajor);        \
                sums[(i) * WIDTHS + j] += before;                                                                                  \
            }                                                                                                                      \
            coopMatStore(sums[(i) * WIDTHS + j], F32x4((to) + j * TILE_N * 4).v, 0, (stride) / 4, gl_CooperativeMatrixLayoutRowMajor); \
        }                                                                                                                          \
    } else if ((exist) > 0) {                                                                                                      \
        UNROLL for (uint j = 0; j < WIDTHS; ++j) {                                                                                 \
            meet_subgroup();                                                                                                       \
            coopMatStore(sums[(i) * WIDTHS + j], memory, scratch, TILE_N / 4, gl_CooperativeMatrixLayoutRowMajor);                 \
            meet_subgroup();                                                                                                       \
            for (uint n = (lane); n < min(uint(exist), TILE_M) * (TILE_N / 4); n += LANES) {                                       \
                const uint line = n / (TILE_N / 4);                                                                                 \
                const uint64_t within = uint64_t(line * (stride) + j * TILE_N) * 4;                                                 \
                vec4 x = uintBitsToFloat(memory[(scratch) + n]);                                                                   \
                if (int(line) >= (valid)) x = vec4(0);                                                                              \
                if (HAS_BASE) x += F32x4((base) + within).v[n % (TILE_N / 4)];                                                     \
                F32x4((to) + within).v[n % (TILE_N / 4)] = x;                                                                      \
            }                                                                                                                      \
        }                                                                                                                          \
    }
// The same rounded to the type of the products; `stride` in elements.
#define STORE_ROUNDED(sums, i, to, stride, exist, scratch, lane)                                                                   \
    if ((exist) > 0) {                                                                                                             \
        UNROLL for (uint j = 0; j < WIDTHS; ++j) {                                                                                 \
            meet_subgroup();                                                                                                       \
            coopMatStore(sums[(i) * WIDTHS + j], memory, scratch, TILE_N / 4, gl_CooperativeMatrixLayoutRowMajor);                 \
            meet_subgroup();                                                                                                       \
            for (uint n = (lane); n < min(uint(exist), TILE_M) * (TILE_N / 8); n += LANES)                                         \
                U32x4((to) + uint64_t(n / (TILE_N / 8) * (stride) + j * TILE_N) * 2).v[n % (TILE_N / 8)] =                         \
                    pack8(uintBitsToFloat(memory[(scratch) + 2 * n]), uintBitsToFloat(memory[(scratch) + 2 * n + 1]));             \
        }                                                                                                                          \
    }

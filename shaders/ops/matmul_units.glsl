// c = base + a b on matrix units (VK_KHR_cooperative_matrix): f16 or bf16 products, fp32 sums. For shaders that bring b into
// shared memory in their own way.
//
// A workgroup computes BLOCK_M x BLOCK_N of c in steps of BLOCK_K: tiles of a and b are fetched into registers, converted to the
// type of the products while they are stored into shared memory, and multiplied from there. With PREFETCH the next step's tiles
// arrive while the present one is multiplied; without, other workgroups of the same processor have to fill the time. The tiles
// keep the order of memory: matrices load as fast along k as along m and n, since one chunk more to a line spreads lines over
// the banks. Workgroup: GROUPS_M * GROUPS_N * GROUPS_K subgroups; those along k share a step's depth, and their sums are added
// in the end. Grid: linear, a workgroup for each tile of c; WALK tiles along m come one after the other, so that workgroups that
// run at the same time share columns of b.
//
// The includer defines before it includes this:
//   A_ADDRESS, BASE_ADDRESS, C_ADDRESS, SIZE_M, SIZE_K, C_STRIDE  the matrices; C_STRIDE: from row to row of base and c
//   N_TILES            how many tiles there are along n
//   B_BY_K, B_LINES, B_LENGTH     b's tile: contiguous along k or n; its lines
// and as macros, which are expanded within main():
//   B_BEGIN(tile)      declares what it keeps; the tile's number along n
//   B_NEXT(k0)         fetches the step at k0, as far as it fits into registers
//   B_PUT              stores it from tiles[B_AT] on, lines B_STRIDE apart
//   C_COLUMN, C_COLUMNS           first column of c of the workgroup, and how many are its
//   K_PART             optional: the part of k of a workgroup, whole steps but for the last one; parts write one c after the other
//   ROW_SCALES         address of an fp32 factor for each row, if the constant SCALED, number 19, says so
#include "ops/matrix_types.glsl"

layout(constant_id = 1) const uint BLOCK_M = 64;
layout(constant_id = 2) const uint BLOCK_N = 64;
layout(constant_id = 3) const uint BLOCK_K = 32;
layout(constant_id = 4) const uint GROUPS_M = 2;
layout(constant_id = 5) const uint GROUPS_N = 2;
layout(constant_id = 6) const uint GROUPS_K = 1;
layout(constant_id = 7) const bool PREFETCH = true;
layout(constant_id = 8) const uint TILE_M = 16;  // shape of a matrix
layout(constant_id = 9) const uint TILE_N = 16;
layout(constant_id = 10) const uint TILE_K = 16;
layout(constant_id = 11) const uint WALK = 8;
layout(constant_id = 12) const uint A_TYPE = 0;
layout(constant_id = 13) const bool A_BY_K = true;  // memory is contiguous along k, or along m
// Rows that are whole numbers of chunks of 8, at addresses of whole numbers of 16 bytes (c: rows of whole 16 bytes).
layout(constant_id = 14) const bool ALIGNED_A = false;
layout(constant_id = 15) const bool ALIGNED_C = false;
layout(constant_id = 16) const bool WHOLE_K = false;  // k is a multiple of BLOCK_K
layout(constant_id = 17) const bool WHOLE_C = false;  // ALIGNED_C, and every block lies within c
layout(constant_id = 18) const bool HAS_BASE = true;
#define THREADS gl_WorkGroupSize.x
#ifndef K_PART
#define K_PART SIZE_K
#endif

const uint ROWS = BLOCK_M / (GROUPS_M * TILE_M), COLUMNS = BLOCK_N / (GROUPS_N * TILE_N);  // matrices of a subgroup
const uint DEPTH = BLOCK_K / GROUPS_K;                                                     // of a subgroup in a step
const uint A_LINES = A_BY_K ? BLOCK_M : BLOCK_K, A_LENGTH = A_BY_K ? BLOCK_K : BLOCK_M;
// In chunks of 8 elements, 16 bytes.
const uint A_CHUNKS = (A_LINES * A_LENGTH / 8 + THREADS - 1) / THREADS;  // of an invocation
const bool A_EXACT = A_LINES * A_LENGTH / 8 % THREADS == 0;
const uint A_STRIDE = A_LENGTH / 8 + 1, B_STRIDE = B_LENGTH / 8 + 1;
const uint B_AT = A_LINES * A_STRIDE, TILES_SIZE = B_AT + B_LINES * B_STRIDE;
// In the end the same memory holds a matrix of each subgroup, or the rows' factors.
const uint MATRIX = TILE_M * TILE_N / 4, EDGE_SIZE = GROUPS_M * GROUPS_N * GROUPS_K * MATRIX;
const uint FACTORS_SIZE = BLOCK_M * TILE_N / 4, END_SIZE = EDGE_SIZE > FACTORS_SIZE ? EDGE_SIZE : FACTORS_SIZE;
shared uvec4 tiles[TILES_SIZE > END_SIZE ? TILES_SIZE : END_SIZE];

// The same at any address: elements `first` on of a line of `length`, zeros beyond it, or everywhere unless `inside`. Addresses
// are clamped, not guarded: nothing outside the line is read.
uint element_bits(uint64_t line, uint i, uint length, bool inside, uint type) {
    const uint at = min(i, length - 1);
    const uint bits = type == TYPE_F32 ? U32(line).v[at] : uint(U16(line).v[at]);
    return inside && i < length ? bits : 0u;
}
Chunk fetch_elements(uint64_t line, uint first, uint length, bool inside, uint type) {
    Chunk c = Chunk(uvec4(0), uvec4(0));
    if (type == TYPE_F32) {
        UNROLL for (uint e = 0; e < 4; ++e) {
            c.low[e] = element_bits(line, first + e, length, inside, TYPE_F32);
            c.high[e] = element_bits(line, first + 4 + e, length, inside, TYPE_F32);
        }
    } else {
        UNROLL for (uint e = 0; e < 4; ++e)
            c.low[e] = element_bits(line, first + 2 * e, length, inside, TYPE_F16) |
                       element_bits(line, first + 2 * e + 1, length, inside, TYPE_F16) << 16;
    }
    return c;
}

// An operand's lines in memory: `outer` is where the tile starts along m or n, and `size` the matrix's extent there. An
// invocation's chunk i lies in the tile at line PLACE.x, element PLACE.y.
#define PLACE(i, lines, length) uvec2((gl_LocalInvocationIndex + (i) * THREADS) / ((length) / 8), (gl_LocalInvocationIndex + (i) * THREADS) % ((length) / 8) * 8)
// Bytes from the tile's first line at k = 0 to a chunk.
uint chunk_offset(uvec2 place, uint lines, uint outer, uint size, bool by_k, uint type) {
    if (by_k) return (min(outer + place.x, size - 1) - outer) * (SIZE_K * bytes_of(type)) + place.y * bytes_of(type);
    return min(place.x, lines - 1) * (size * bytes_of(type)) + min(outer + place.y, size - 8) * bytes_of(type);
}
Chunk fetch_edge(uint64_t address, uvec2 place, uint k0, uint outer, uint size, bool by_k, uint type) {
    const uint line = by_k ? outer + place.x : k0 + place.x, lines = by_k ? size : SIZE_K, length = by_k ? SIZE_K : size;
    return fetch_elements(address + uint64_t(min(line, lines - 1)) * length * bytes_of(type), by_k ? k0 + place.y : outer + place.y,
                          length, by_k || line < SIZE_K, type);
}
#define OPERAND_START(address, outer, by_k, type) ((address) + (by_k ? uint64_t(outer) * SIZE_K * bytes_of(type) : uint64_t(0)))
#define OPERAND_ADVANCE(size, by_k, type) (by_k ? uint64_t(BLOCK_K * bytes_of(type)) : uint64_t(size) * (BLOCK_K * bytes_of(type)))

#define FETCH_OPERAND(chunk, start, offset, chunks, address, lines, length, outer, size, by_k, type, aligned, k0)            \
    UNROLL for (uint i = 0; i < chunks; ++i) {                                                                                \
        const uvec2 place = PLACE(i, lines, length);                                                                          \
        if (aligned)                                                                                                          \
            chunk[i] = fetch_chunk(start + offset[i], address, WHOLE_K || k0 + (by_k ? place.y : place.x) < SIZE_K, type);    \
        else                                                                                                                  \
            chunk[i] = fetch_edge(address, place, k0, outer, size, by_k, type);                                               \
    }
#define FETCH_A(k0) \
    FETCH_OPERAND(a, a_at, a_offset, A_CHUNKS, A_ADDRESS, A_LINES, A_LENGTH, m0, SIZE_M, A_BY_K, A_TYPE, ALIGNED_A, k0)
#define PUT_OPERAND(chunk, chunks, exact, first, stride, lines, length, type)                                                 \
    UNROLL for (uint i = 0; i < chunks; ++i) {                                                                                \
        const uvec2 place = PLACE(i, lines, length);                                                                          \
        if (exact || place.x < lines) tiles[first + place.x * stride + place.y / 8] = pack_chunk(chunk[i], type);             \
    }

#define MATRIX_A coopmat<ELEMENT, gl_ScopeSubgroup, TILE_M, TILE_K, gl_MatrixUseA>
#define MATRIX_B coopmat<ELEMENT, gl_ScopeSubgroup, TILE_K, TILE_N, gl_MatrixUseB>
#define MATRIX_C coopmat<float, gl_ScopeSubgroup, TILE_M, TILE_N, gl_MatrixUseAccumulator>

void main() {
    const uint tiles_m = (SIZE_M + BLOCK_M - 1) / BLOCK_M, tiles_n = N_TILES, all = workgroup_index();
    const uint k_number = all / (tiles_m * tiles_n), number = all % (tiles_m * tiles_n);
    const uint k_begin = k_number * K_PART, k_end = min(k_begin + K_PART, SIZE_K);
    if (k_number > 0 && k_begin >= SIZE_K) return;
    const uint64_t c_address = C_ADDRESS + uint64_t(k_number) * SIZE_M * C_STRIDE * 4;
    const uint first = number / (WALK * tiles_n) * WALK, in_walk = number % (WALK * tiles_n), walk = min(tiles_m - first, WALK);
    const uint m0 = (first + in_walk % walk) * BLOCK_M;
    B_BEGIN(in_walk / walk)
    const uint group = GROUPS_K == 1 ? gl_SubgroupID : gl_SubgroupID % (GROUPS_M * GROUPS_N);
    const uint k_group = GROUPS_K == 1 ? 0 : gl_SubgroupID / (GROUPS_M * GROUPS_N);
    const uint row0 = group / GROUPS_N * (ROWS * TILE_M), column0 = group % GROUPS_N * (COLUMNS * TILE_N);

    uint64_t a_at = OPERAND_START(A_ADDRESS, m0, A_BY_K, A_TYPE);
    const uint64_t a_advance = OPERAND_ADVANCE(SIZE_M, A_BY_K, A_TYPE);
    a_at += a_advance * (k_begin / BLOCK_K);
    uint a_offset[A_CHUNKS];
    UNROLL for (uint i = 0; i < A_CHUNKS; ++i)
        a_offset[i] = chunk_offset(PLACE(i, A_LINES, A_LENGTH), A_LINES, m0, SIZE_M, A_BY_K, A_TYPE);
    Chunk a[A_CHUNKS];
    MATRIX_C sums[ROWS * COLUMNS];
    UNROLL for (uint i = 0; i < ROWS * COLUMNS; ++i) sums[i] = MATRIX_C(0.0);

    uint k0 = k_begin;
    if (PREFETCH) {
        FETCH_A(k0)
        B_NEXT(k0)
    }
    do {
        if (!PREFETCH) {
            FETCH_A(k0)
            B_NEXT(k0)
        }
        a_at += a_advance;
        PUT_OPERAND(a, A_CHUNKS, A_EXACT, 0, A_STRIDE, A_LINES, A_LENGTH, A_TYPE)
        B_PUT
        barrier();
        k0 += BLOCK_K;
        if (PREFETCH && k0 < k_end) {
            FETCH_A(k0)
            B_NEXT(k0)
        }
        UNROLL for (uint step = 0; step < DEPTH; step += TILE_K) {
            const uint k = k_group * DEPTH + step;
            MATRIX_A rows[ROWS];
            UNROLL for (uint i = 0; i < ROWS; ++i) {
                const uint row = row0 + i * TILE_M;
                if (A_BY_K)
                    coopMatLoad(rows[i], tiles, row * A_STRIDE + k / 8, A_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                else
                    coopMatLoad(rows[i], tiles, k * A_STRIDE + row / 8, A_STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
            }
            UNROLL for (uint j = 0; j < COLUMNS; ++j) {
                const uint column = column0 + j * TILE_N;
                MATRIX_B columns;
                if (B_BY_K)
                    coopMatLoad(columns, tiles, B_AT + column * B_STRIDE + k / 8, B_STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
                else
                    coopMatLoad(columns, tiles, B_AT + k * B_STRIDE + column / 8, B_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                UNROLL for (uint i = 0; i < ROWS; ++i)
                    sums[i * COLUMNS + j] = coopMatMulAdd(rows[i], columns, sums[i * COLUMNS + j]);
            }
        }
        barrier();
    } while (k0 < k_end);

    // The choice is the same for the whole workgroup: all its invocations meet at the barriers.
    if (GROUPS_K == 1 && (WHOLE_C || (ALIGNED_C && m0 + BLOCK_M <= SIZE_M && BLOCK_N <= C_COLUMNS))) {
        if (SCALED) {  // a row's factor in each column of a matrix
            for (uint e = gl_LocalInvocationIndex; e < FACTORS_SIZE; e += THREADS)
                tiles[e] = uvec4(floatBitsToUint(F32(ROW_SCALES).v[m0 + e / (TILE_N / 4)]));
            barrier();
        }
        UNROLL for (uint i = 0; i < ROWS; ++i) {
            MATRIX_C factors;
            if (SCALED) coopMatLoad(factors, tiles, (row0 + i * TILE_M) * (TILE_N / 4), TILE_N / 4, gl_CooperativeMatrixLayoutRowMajor);
            UNROLL for (uint j = 0; j < COLUMNS; ++j) {
                const uint64_t at = (uint64_t(m0 + row0 + i * TILE_M) * C_STRIDE + C_COLUMN + column0 + j * TILE_N) * 4;
                if (SCALED) sums[i * COLUMNS + j] = sums[i * COLUMNS + j] * factors;
                if (HAS_BASE) {
                    MATRIX_C base;
                    coopMatLoad(base, F32x4(BASE_ADDRESS + at).v, 0, C_STRIDE / 4, gl_CooperativeMatrixLayoutRowMajor);
                    sums[i * COLUMNS + j] += base;
                }
                coopMatStore(sums[i * COLUMNS + j], F32x4(c_address + at).v, 0, C_STRIDE / 4, gl_CooperativeMatrixLayoutRowMajor);
            }
        }
    } else {
        // One matrix after the other, always sums[0], the others moving up: an index that is no constant, as in a loop that a
        // driver does not unroll, would keep all sums in memory instead of registers, throughout the product.
        [[dont_unroll]] for (uint n = 0; n < ROWS * COLUMNS; ++n) {
            const uint i = n / COLUMNS, j = n % COLUMNS;
            coopMatStore(sums[0], tiles, gl_SubgroupID * MATRIX, TILE_N / 4, gl_CooperativeMatrixLayoutRowMajor);
            UNROLL for (uint next = 1; next < ROWS * COLUMNS; ++next) sums[next - 1] = sums[next];
            barrier();
            for (uint e = gl_LocalInvocationIndex; e < GROUPS_M * GROUPS_N * MATRIX * 4; e += THREADS) {
                const uint of = e / (MATRIX * 4), in_matrix = e % (MATRIX * 4);
                const uint y = m0 + of / GROUPS_N * (ROWS * TILE_M) + i * TILE_M + in_matrix / TILE_N;
                const uint x = of % GROUPS_N * (COLUMNS * TILE_N) + j * TILE_N + in_matrix % TILE_N;
                float sum = 0;
                UNROLL for (uint part = 0; part < GROUPS_K; ++part)
                    sum += uintBitsToFloat(tiles[(part * (GROUPS_M * GROUPS_N) + of) * MATRIX + in_matrix / 4][e % 4]);
                if (y < SIZE_M && x < C_COLUMNS) {
                    const uint64_t at = uint64_t(y) * C_STRIDE + C_COLUMN + x;
                    if (SCALED) sum *= F32(ROW_SCALES).v[y];
                    store_f32(c_address, at, HAS_BASE ? load_f32(BASE_ADDRESS, at) + sum : sum);
                }
            }
            barrier();
        }
    }
}

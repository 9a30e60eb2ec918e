#version 460
//! variant coopmat_nt_f32_f16 needs=coopmat A_BY_K=1 B_BY_K=1 B=f32 COMPUTE=f16
//! variant coopmat_nt_f16_f16 needs=coopmat A_BY_K=1 B_BY_K=1 B=f16 COMPUTE=f16
//! variant coopmat_nt_bf16_f16 needs=coopmat A_BY_K=1 B_BY_K=1 B=bf16 COMPUTE=f16
//! variant coopmat_nn_f32_f16 needs=coopmat A_BY_K=1 B_BY_K=0 B=f32 COMPUTE=f16
//! variant coopmat_nn_f16_f16 needs=coopmat A_BY_K=1 B_BY_K=0 B=f16 COMPUTE=f16
//! variant coopmat_nn_bf16_f16 needs=coopmat A_BY_K=1 B_BY_K=0 B=bf16 COMPUTE=f16
//! variant coopmat_tn_f32_f16 needs=coopmat A_BY_K=0 B_BY_K=0 B=f32 COMPUTE=f16
//! variant coopmat_nt_f32_bf16 needs=coopmat,bfloat16 A_BY_K=1 B_BY_K=1 B=f32 COMPUTE=bf16 BFLOAT=1
//! variant coopmat_nt_f16_bf16 needs=coopmat,bfloat16 A_BY_K=1 B_BY_K=1 B=f16 COMPUTE=bf16 BFLOAT=1
//! variant coopmat_nt_bf16_bf16 needs=coopmat,bfloat16 A_BY_K=1 B_BY_K=1 B=bf16 COMPUTE=bf16 BFLOAT=1
//! variant coopmat_nn_f32_bf16 needs=coopmat,bfloat16 A_BY_K=1 B_BY_K=0 B=f32 COMPUTE=bf16 BFLOAT=1
//! variant coopmat_nn_f16_bf16 needs=coopmat,bfloat16 A_BY_K=1 B_BY_K=0 B=f16 COMPUTE=bf16 BFLOAT=1
//! variant coopmat_nn_bf16_bf16 needs=coopmat,bfloat16 A_BY_K=1 B_BY_K=0 B=bf16 COMPUTE=bf16 BFLOAT=1
//! variant coopmat_tn_f32_bf16 needs=coopmat,bfloat16 A_BY_K=0 B_BY_K=0 B=f32 COMPUTE=bf16 BFLOAT=1
// c = base + a b on matrix units (VK_KHR_cooperative_matrix): f16 or bf16 products, fp32 sums. The operands are converted while
// they are stored into shared memory; each subgroup sums (BLOCK_M / GROUPS_M) x (BLOCK_N / GROUPS_N) results in matrices of the
// shape that the device names. Workgroup: GROUPS_M * GROUPS_N subgroups. Grid: (ceil(n / BLOCK_N), ceil(m / BLOCK_M)).
#pragma use_vulkan_memory_model
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#include "matmul_tiles.glsl"
#ifdef BFLOAT
#extension GL_EXT_bfloat16 : require
#define ELEMENT bfloat16_t
#else
#define ELEMENT float16_t
#endif

layout(constant_id = 8) const uint TILE_M = 16;  // shape of a matrix
layout(constant_id = 9) const uint TILE_N = 16;
layout(constant_id = 10) const uint TILE_K = 16;
layout(constant_id = 11) const uint GROUPS_M = 2;  // subgroups of the workgroup along m and n
layout(constant_id = 12) const uint GROUPS_N = 2;
// The order in shared memory: contiguous along k (a: row-major, b: column-major) or along m and n.
layout(constant_id = 13) const bool TILE_A_BY_K = true;
layout(constant_id = 14) const bool TILE_B_BY_K = false;

const uint ROWS = BLOCK_M / (GROUPS_M * TILE_M), COLUMNS = BLOCK_N / (GROUPS_N * TILE_N);  // matrices of a subgroup
const bool A_TURNED = TILE_A_BY_K != bool(A_BY_K), B_TURNED = TILE_B_BY_K != bool(B_BY_K);
// A turned tile is stored in words of two elements, from pairs of lines.
const uint A_GROUP = A_TURNED ? 2 : 1, B_GROUP = B_TURNED ? 2 : 1;
const uint A_CHUNKS = (BLOCK_M * BLOCK_K / 8 / A_GROUP + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x * A_GROUP;
const uint B_CHUNKS = (BLOCK_N * BLOCK_K / 8 / B_GROUP + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x * B_GROUP;
// In units of 8 elements; the one more spreads columns over the banks.
const uint A_STRIDE = (TILE_A_BY_K ? BLOCK_K : BLOCK_M) / 8 + 1, B_STRIDE = (TILE_B_BY_K ? BLOCK_K : BLOCK_N) / 8 + 1;
shared uvec4 tile_a[(TILE_A_BY_K ? BLOCK_M : BLOCK_K) * A_STRIDE];
shared uvec4 tile_b[(TILE_B_BY_K ? BLOCK_N : BLOCK_K) * B_STRIDE];
shared float edge[GROUPS_M * GROUPS_N * TILE_M * TILE_N];  // a matrix of each subgroup, where c's edge cuts it

// 8 elements in the type of the products.
#ifdef BFLOAT
uint pack2(float x, float y) { return packUint2x16(u16vec2(float_to_bf16(x), float_to_bf16(y))); }
uvec4 pack_chunk(Chunk_bf16 c) { return c.bits; }
#else
uint pack2(float x, float y) { return packFloat2x16(f16vec2(float16_t(x), float16_t(y))); }
uvec4 pack_chunk(Chunk_f16 c) { return c.bits; }
#endif
uvec4 pack8(vec4 low, vec4 high) {
    return uvec4(pack2(low.x, low.y), pack2(low.z, low.w), pack2(high.x, high.y), pack2(high.z, high.w));
}
uvec4 pack_chunk(Chunk_f32 c) { return pack8(c.low, c.high); }
#ifdef BFLOAT
uvec4 pack_chunk(Chunk_f16 c) { return pack8(low_floats(c), high_floats(c)); }
#else
uvec4 pack_chunk(Chunk_bf16 c) { return pack8(low_floats(c), high_floats(c)); }
#endif

// Stores chunk i, or with the one before it, from the line before, as 8 words of the turned tile.
#define STORE_CHUNK(tile, stride, turned, at, i, chunks)                                                             \
    if (!(turned)) {                                                                                                 \
        tile[at.x * stride + at.y / 8] = pack_chunk(chunks[i]);                                                      \
    } else if (i % 2 == 1) {                                                                                         \
        const uvec4 even = pack_chunk(chunks[i - 1]), odd = pack_chunk(chunks[i]);                                   \
        const uint word = at.x / 2;                                                                                  \
        UNROLL for (uint e = 0; e < 4; ++e) {                                                                        \
            tile[(at.y + 2 * e) * stride + word / 4][word % 4] = (even[e] & 0xffffu) | odd[e] << 16;                 \
            tile[(at.y + 2 * e + 1) * stride + word / 4][word % 4] = even[e] >> 16 | (odd[e] & 0xffff0000u);         \
        }                                                                                                            \
    }

#define SUBGROUP_BARRIER                                                               \
    controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared,     \
                   gl_SemanticsAcquireRelease | gl_SemanticsMakeAvailable | gl_SemanticsMakeVisible)
#define PLACE_A(i) place(i, A_TILE_LINES, A_TILE_LENGTH, A_TURNED, A_GROUP)
#define PLACE_B(i) place(i, B_TILE_LINES, B_TILE_LENGTH, B_TURNED, B_GROUP)

void main() {
    const uint m0 = gl_WorkGroupID.y * BLOCK_M, n0 = gl_WorkGroupID.x * BLOCK_N;
    const uint row0 = gl_SubgroupID / GROUPS_N * (ROWS * TILE_M), column0 = gl_SubgroupID % GROUPS_N * (COLUMNS * TILE_N);
    coopmat<float, gl_ScopeSubgroup, TILE_M, TILE_N, gl_MatrixUseAccumulator> sums[ROWS * COLUMNS];
    UNROLL for (uint i = 0; i < ROWS * COLUMNS; ++i)
        sums[i] = coopmat<float, gl_ScopeSubgroup, TILE_M, TILE_N, gl_MatrixUseAccumulator>(0.0);
    Chunk_f32 a[A_CHUNKS];
    CONCAT(Chunk_, B) b[B_CHUNKS];

    // Round k fetches step k and multiplies step k - 1: one place for each keeps the program small.
    uint k0 = 0;
    do {
        if (k0 < p.k) {
            UNROLL for (uint i = 0; i < A_CHUNKS; ++i) a[i] = FETCH_A(PLACE_A(i), k0);
            UNROLL for (uint i = 0; i < B_CHUNKS; ++i) b[i] = FETCH_B(PLACE_B(i), k0);
        }
        if (k0 != 0) {
            UNROLL for (uint k = 0; k < BLOCK_K; k += TILE_K) {
                coopmat<ELEMENT, gl_ScopeSubgroup, TILE_M, TILE_K, gl_MatrixUseA> rows[ROWS];
                UNROLL for (uint i = 0; i < ROWS; ++i) {
                    const uint row = row0 + i * TILE_M;
                    if (TILE_A_BY_K)
                        coopMatLoad(rows[i], tile_a, row * A_STRIDE + k / 8, A_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                    else
                        coopMatLoad(rows[i], tile_a, k * A_STRIDE + row / 8, A_STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
                }
                UNROLL for (uint j = 0; j < COLUMNS; ++j) {
                    const uint column = column0 + j * TILE_N;
                    coopmat<ELEMENT, gl_ScopeSubgroup, TILE_K, TILE_N, gl_MatrixUseB> columns;
                    if (TILE_B_BY_K)
                        coopMatLoad(columns, tile_b, column * B_STRIDE + k / 8, B_STRIDE,
                                    gl_CooperativeMatrixLayoutColumnMajor);
                    else
                        coopMatLoad(columns, tile_b, k * B_STRIDE + column / 8, B_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                    UNROLL for (uint i = 0; i < ROWS; ++i)
                        sums[i * COLUMNS + j] = coopMatMulAdd(rows[i], columns, sums[i * COLUMNS + j]);
                }
            }
            barrier();
        }
        if (k0 < p.k) {
            UNROLL for (uint i = 0; i < A_CHUNKS; ++i) {
                const uvec2 at = PLACE_A(i);
                if (in_tile(at, A_TILE_LINES, A_TILE_LENGTH)) STORE_CHUNK(tile_a, A_STRIDE, A_TURNED, at, i, a)
            }
            UNROLL for (uint i = 0; i < B_CHUNKS; ++i) {
                const uvec2 at = PLACE_B(i);
                if (in_tile(at, B_TILE_LINES, B_TILE_LENGTH)) STORE_CHUNK(tile_b, B_STRIDE, B_TURNED, at, i, b)
            }
            barrier();
        }
        k0 += BLOCK_K;
    } while (k0 < p.k + BLOCK_K);

    // The choice is the same for the whole workgroup: CPU drivers make every barrier, also a subgroup's, one of the workgroup.
    const bool whole = ALIGNED_C && m0 + BLOCK_M <= p.m && n0 + BLOCK_N <= p.n;
    UNROLL for (uint i = 0; i < ROWS; ++i) {
        UNROLL for (uint j = 0; j < COLUMNS; ++j) {
            const uint y0 = m0 + row0 + i * TILE_M, x0 = n0 + column0 + j * TILE_N;
            if (whole) {
                const uint64_t at = (uint64_t(y0) * p.n + x0) * 4;
                if (p.base != 0) {
                    coopmat<float, gl_ScopeSubgroup, TILE_M, TILE_N, gl_MatrixUseAccumulator> base;
                    coopMatLoad(base, F32x4(p.base + at).v, 0, p.n / 4, gl_CooperativeMatrixLayoutRowMajor);
                    sums[i * COLUMNS + j] += base;
                }
                coopMatStore(sums[i * COLUMNS + j], F32x4(p.c + at).v, 0, p.n / 4, gl_CooperativeMatrixLayoutRowMajor);
            } else {
                const uint first = gl_SubgroupID * (TILE_M * TILE_N);
                coopMatStore(sums[i * COLUMNS + j], edge, first, TILE_N, gl_CooperativeMatrixLayoutRowMajor);
                SUBGROUP_BARRIER;
                for (uint e = gl_SubgroupInvocationID; e < TILE_M * TILE_N; e += gl_SubgroupSize) {
                    const uint y = y0 + e / TILE_N, x = x0 + e % TILE_N;
                    if (y < p.m && x < p.n) {
                        const uint64_t at = uint64_t(y) * p.n + x;
                        store_f32(p.c, at, p.base != 0 ? load_f32(p.base, at) + edge[first + e] : edge[first + e]);
                    }
                }
                SUBGROUP_BARRIER;
            }
        }
    }
}

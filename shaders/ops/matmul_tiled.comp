#version 460
//! variant tiled_nt_f32 A_BY_K=1 B_BY_K=1 B=f32
//! variant tiled_nt_f16 A_BY_K=1 B_BY_K=1 B=f16
//! variant tiled_nt_bf16 A_BY_K=1 B_BY_K=1 B=bf16
//! variant tiled_nn_f32 A_BY_K=1 B_BY_K=0 B=f32
//! variant tiled_nn_f16 A_BY_K=1 B_BY_K=0 B=f16
//! variant tiled_nn_bf16 A_BY_K=1 B_BY_K=0 B=bf16
//! variant tiled_tn_f32 A_BY_K=0 B_BY_K=0 B=f32
// c = base + a b in fp32 for large products on GPUs: tiles of both operands in shared memory, in the order [k][m] and [k][n];
// each invocation sums 8 x 8 results in registers, as four 4 x 4 blocks half a tile apart (reads of shared memory without
// conflicts). Workgroup: BLOCK_M / 8 * BLOCK_N / 8. Grid: (ceil(n / BLOCK_N), ceil(m / BLOCK_M),
// parts of k).
#include "matmul_tiles.glsl"

const uint A_STRIDE = BLOCK_M / 4 + 1, B_STRIDE = BLOCK_N / 4 + 1;  // in vec4; the one more spreads columns over the banks
shared vec4 tile_a[BLOCK_K * A_STRIDE];
shared vec4 tile_b[BLOCK_K * B_STRIDE];
const uint A_CHUNKS = (BLOCK_M * BLOCK_K / 8 + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;  // of one invocation
const uint B_CHUNKS = (BLOCK_N * BLOCK_K / 8 + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;

#define STORE_CHUNK(tile, stride, turned, at, chunk)                                      \
    {                                                                                     \
        const vec4 low = low_floats(chunk), high = high_floats(chunk);                    \
        if (turned) {                                                                     \
            UNROLL for (uint e = 0; e < 4; ++e) {                                         \
                tile[(at.y + e) * stride + at.x / 4][at.x % 4] = low[e];                  \
                tile[(at.y + 4 + e) * stride + at.x / 4][at.x % 4] = high[e];             \
            }                                                                             \
        } else {                                                                          \
            tile[at.x * stride + at.y / 4] = low;                                         \
            tile[at.x * stride + at.y / 4 + 1] = high;                                    \
        }                                                                                 \
    }

#define PLACE_A(i) place(i, A_TILE_LINES, A_TILE_LENGTH, bool(A_BY_K), 1)
#define PLACE_B(i) place(i, B_TILE_LINES, B_TILE_LENGTH, bool(B_BY_K), 1)

void store(uint y, uint x, vec4 sum) {
    if (y >= p.m || x >= p.n) return;
    const uint64_t at = uint64_t(y) * p.n + x, c = p.c + uint64_t(gl_WorkGroupID.z) * p.m * p.n * 4;
    if (ALIGNED_C) {
        if (p.base != 0) sum += F32x4(p.base + at * 4).v[0];
        F32x4(c + at * 4).v[0] = sum;
    } else {
        UNROLL for (uint e = 0; e < 4; ++e)
            if (x + e < p.n) store_f32(c, at + e, p.base != 0 ? load_f32(p.base, at + e) + sum[e] : sum[e]);
    }
}

void main() {
    const uint m0 = gl_WorkGroupID.y * BLOCK_M, n0 = gl_WorkGroupID.x * BLOCK_N;
    const uint tx = gl_LocalInvocationIndex % (BLOCK_N / 8), ty = gl_LocalInvocationIndex / (BLOCK_N / 8);
    vec4 sums[8][2];
    UNROLL for (uint i = 0; i < 8; ++i) sums[i][0] = sums[i][1] = vec4(0);
    Chunk_f32 a[A_CHUNKS];
    CONCAT(Chunk_, B) b[B_CHUNKS];

    // Round k fetches step k and multiplies step k - 1: one place for each keeps the program small.
    const uint k_begin = gl_WorkGroupID.z * p.k_part, k_end = min(k_begin + p.k_part, p.k);
    uint k0 = k_begin;
    do {
        if (k0 < k_end) {
            UNROLL for (uint i = 0; i < A_CHUNKS; ++i) a[i] = FETCH_A(PLACE_A(i), k0);
            UNROLL for (uint i = 0; i < B_CHUNKS; ++i) b[i] = FETCH_B(PLACE_B(i), k0);
        }
        if (k0 != k_begin) {
            [[dont_unroll]] for (uint k = 0; k < BLOCK_K; k += 4) {
                UNROLL for (uint s = 0; s < 4; ++s) {
                    const vec4 a0 = tile_a[(k + s) * A_STRIDE + ty], a1 = tile_a[(k + s) * A_STRIDE + BLOCK_M / 8 + ty];
                    const vec4 b0 = tile_b[(k + s) * B_STRIDE + tx], b1 = tile_b[(k + s) * B_STRIDE + BLOCK_N / 8 + tx];
                    UNROLL for (uint i = 0; i < 4; ++i) {
                        sums[i][0] += a0[i] * b0;
                        sums[i][1] += a0[i] * b1;
                        sums[i + 4][0] += a1[i] * b0;
                        sums[i + 4][1] += a1[i] * b1;
                    }
                }
            }
            barrier();
        }
        if (k0 < k_end) {
            UNROLL for (uint i = 0; i < A_CHUNKS; ++i) {
                const uvec2 at = PLACE_A(i);
                if (in_tile(at, A_TILE_LINES, A_TILE_LENGTH)) STORE_CHUNK(tile_a, A_STRIDE, bool(A_BY_K), at, a[i])
            }
            UNROLL for (uint i = 0; i < B_CHUNKS; ++i) {
                const uvec2 at = PLACE_B(i);
                if (in_tile(at, B_TILE_LINES, B_TILE_LENGTH)) STORE_CHUNK(tile_b, B_STRIDE, bool(B_BY_K), at, b[i])
            }
            barrier();
        }
        k0 += BLOCK_K;
    } while (k0 < k_end + BLOCK_K);
    UNROLL for (uint i = 0; i < 8; ++i) {
        const uint y = m0 + i / 4 * (BLOCK_M / 2) + ty * 4 + i % 4;
        store(y, n0 + tx * 4, sums[i][0]);
        store(y, n0 + BLOCK_N / 2 + tx * 4, sums[i][1]);
    }
}

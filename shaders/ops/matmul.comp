#version 460
//! variant matmul_nn_f32 B=f32 ROWS=8 VECTORS=2
//! variant matmul_nn_f16 B=f16 ROWS=8 VECTORS=2
//! variant matmul_nn_bf16 B=bf16 ROWS=8 VECTORS=2
//! variant matmul_tn_f32 B=f32 ROWS=8 VECTORS=4 TN=1
// NN: c[m, n] = a[m, k] b[k, n];  TN: c[m, n] = a[k, m]^T b[k, n].  Portable: no shared memory, no barrier, no subgroup operation.
// One subgroup for each tile of ROWS x (VECTORS * LANES): lanes run along n, a is subgroup-uniform, the sums stay in registers.
// Grid: (ceil(n / (VECTORS * LANES)), ceil(m / ROWS)).
#include "common.glsl"
#include "lanes.glsl"
#include "args/matmul.h"
layout(push_constant, scalar) uniform Push { MatmulArgs p; };
#define DEPTH 8  // unrolled steps along k

float acc[ROWS][VECTORS];
uint row[ROWS];        // element offset of each row (NN) or column (TN) of a, clamped
uint column[VECTORS];  // first column of each vector, moved left where it would leave the matrix

#ifdef TN
#define A_VALUE(i, k, s) F32(AT(f32, a_row, uint64_t(k + s) * p.m)).v[i]
#else
#define A_VALUE(i, k, s) F32(AT(f32, p.a, row[i] + k)).v[s]
#endif

// Adds `depth` products from k on.
#define STEPS(depth)                                                                                             \
    UNROLL for (uint s = 0; s < depth; ++s) {                                                                    \
        float b[VECTORS];                                                                                        \
        UNROLL for (uint j = 0; j < VECTORS; ++j) b[j] = LANES_LOAD(B, AT(B, p.b, (k + s) * p.n + column[j]));   \
        UNROLL for (uint i = 0; i < ROWS; ++i) {                                                                 \
            const float a = A_VALUE(i, k, s);                                                                    \
            UNROLL for (uint j = 0; j < VECTORS; ++j) acc[i][j] += a * b[j];                                     \
        }                                                                                                        \
    }

void main() {
    init_lanes();
    const uint n0 = gl_WorkGroupID.x * (LANES * VECTORS), m0 = gl_WorkGroupID.y * ROWS;
    UNROLL for (uint i = 0; i < ROWS; ++i) {
        row[i] = min(m0 + i, p.m - 1);
#ifndef TN
        row[i] *= p.k;
#endif
        UNROLL for (uint j = 0; j < VECTORS; ++j) acc[i][j] = 0;
    }
    const uint last_column = p.n - min(p.n, LANES);
    UNROLL for (uint j = 0; j < VECTORS; ++j) column[j] = min(n0 + j * LANES, last_column);
#ifdef TN
    const bool whole = p.n >= LANES && p.m >= ROWS;
    const uint64_t a_row = AT(f32, p.a, min(m0, p.m - min(p.m, ROWS)));
#else
    const bool whole = p.n >= LANES;
#endif
    uint k = 0;
    if (whole) {
        const uint deep = p.k / DEPTH * DEPTH;
        if (deep != 0) do { STEPS(DEPTH) k += DEPTH; } while (k < deep);
        if (k < p.k) do { STEPS(1) k += 1; } while (k < p.k);
    } else if (p.k != 0) {  // narrower than a vector, or lower than a tile
        do {
            UNROLL for (uint j = 0; j < VECTORS; ++j) {
                const float b = LOAD(B, p.b, k * p.n + min(column[j] + lane, p.n - 1));
                UNROLL for (uint i = 0; i < ROWS; ++i) {
#ifdef TN
                    acc[i][j] += load_f32(p.a, k * p.m + row[i]) * b;
#else
                    acc[i][j] += load_f32(p.a, row[i] + k) * b;
#endif
                }
            }
            k += 1;
        } while (k < p.k);
    }
#ifdef TN
    const uint first_row = whole ? min(m0, p.m - ROWS) : m0;
#else
    const uint first_row = m0;
#endif
    UNROLL for (uint j = 0; j < VECTORS; ++j) {
        const uint x = column[j] + lane;
        if (x < p.n && x >= n0 + j * LANES) {
            UNROLL for (uint i = 0; i < ROWS; ++i) {
                const uint y = first_row + i;
                if (y < p.m && y >= m0) {
                    const uint64_t at = uint64_t(y) * p.n + x;
                    store_f32(p.c, at, p.base != 0 ? load_f32(p.base, at) + acc[i][j] : acc[i][j]);
                }
            }
        }
    }
}

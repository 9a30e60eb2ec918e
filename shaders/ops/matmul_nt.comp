#version 460
//! variant matmul_nt_f32 B=f32 ROWS=4
//! variant matmul_nt_f16 B=f16 ROWS=4
//! variant matmul_nt_bf16 B=bf16 ROWS=4
//! variant matvec_f32 B=f32 ROWS=1
//! variant matvec_f16 B=f16 ROWS=1
//! variant matvec_bf16 B=bf16 ROWS=1
// NT: c[m, n] = a[m, k] b[n, k]^T. Portable: no shared memory, no barrier.
// One subgroup for each tile of ROWS x 8 results: lanes run along k, each sums every LANES-th product; lanes are added at the end.
// Grid: (ceil(n / 8), ceil(m / ROWS)).
#include "common.glsl"
#include "lanes.glsl"
#include "args/matmul.h"
layout(push_constant, scalar) uniform Push { MatmulArgs p; };
#define COLUMNS 8
#define DEPTH 4  // unrolled vectors along k

float acc[ROWS][COLUMNS];

void store(uint y, uint x, float value) {
    if (y >= p.m || x >= p.n) return;
    const uint64_t at = uint64_t(y) * p.n + x;
    store_f32(p.c, at, p.base != 0 ? load_f32(p.base, at) + value : value);
}

void main() {
    init_lanes();
    const uint n0 = gl_WorkGroupID.x * COLUMNS, m0 = gl_WorkGroupID.y * ROWS;
    uint row[ROWS], column[COLUMNS];
    UNROLL for (uint i = 0; i < ROWS; ++i) {
        row[i] = min(m0 + i, p.m - 1) * p.k;
        UNROLL for (uint j = 0; j < COLUMNS; ++j) acc[i][j] = 0;
    }
    UNROLL for (uint j = 0; j < COLUMNS; ++j) column[j] = min(n0 + j, p.n - 1) * p.k;
    uint k = 0;
    const uint deep = p.k / (DEPTH * LANES) * (DEPTH * LANES);
    if (deep != 0) do {
        UNROLL for (uint s = 0; s < DEPTH; ++s) {
            float a[ROWS];
            UNROLL for (uint i = 0; i < ROWS; ++i) a[i] = lanes_f32(AT(f32, p.a, row[i] + k + s * LANES));
            UNROLL for (uint j = 0; j < COLUMNS; ++j) {
                const float b = LANES_LOAD(B, AT(B, p.b, column[j] + k + s * LANES));
                UNROLL for (uint i = 0; i < ROWS; ++i) acc[i][j] += a[i] * b;
            }
        }
        k += DEPTH * LANES;
    } while (k < deep);
    if (k < p.k) do {  // the last k % (DEPTH * LANES): lanes beyond the end add zeros
        const uint at = min(k + lane, p.k - 1);
        const bool inside = k + lane < p.k;
        float a[ROWS];
        UNROLL for (uint i = 0; i < ROWS; ++i) a[i] = mix(0.0, load_f32(p.a, row[i] + at), inside);
        UNROLL for (uint j = 0; j < COLUMNS; ++j) {
            const float b = mix(0.0, LOAD(B, p.b, column[j] + at), inside);
            UNROLL for (uint i = 0; i < ROWS; ++i) acc[i][j] += a[i] * b;
        }
        k += LANES;
    } while (k < p.k);
    UNROLL for (uint i = 0; i < ROWS; ++i) {
        float sum = 0;
        if (uniform_loads) {  // the sum over a transposed 8x8 block: constant lanes become shuffles
#define LANE(c) subgroupBroadcast(acc[i][c], l)
            UNROLL for (uint l = 0; l < 8; ++l)
                sum += by_lane(LANE(0), LANE(1), LANE(2), LANE(3), LANE(4), LANE(5), LANE(6), LANE(7));
        } else {
            UNROLL for (uint c = 0; c < COLUMNS; ++c) {
                const float total = subgroupAdd(acc[i][c]);
                sum = lane % COLUMNS == c ? total : sum;
            }
        }
        if (lane < COLUMNS) store(m0 + i, n0 + lane, sum);
    }
}

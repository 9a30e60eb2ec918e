#version 460
//! variant ternary_matvec_2 FIVE=0 DOT=0
//! variant ternary_matvec_5 FIVE=1 DOT=0
//! variant ternary_matvec_2_dot needs=integer_dot FIVE=0 DOT=1
//! variant ternary_matvec_5_dot needs=integer_dot FIVE=1 DOT=1
// y = x_q W^T for few tokens, W ternary, in integers: exact but for one product with the scales. A workgroup makes TILES tiles of
// 32 rows; a lane has one row of each, and the workgroup's parts of 32 lanes share the chunks of columns (ternary.glsl).
// 2 bits: fields are multiplied where they lie, as 0, 1, 2 times 1, 4 or 16; the sum of q is taken off at the end. Five to a byte:
// a table in shared memory has the five weights of each byte as bytes, with copies so that lanes keep out of each other's banks.
// Activations are made here from x, by every workgroup, or come as integers (ternary_input.comp).
// Grid: (tiles / TILES, or pairs of tiles with SWIGLU, 1, groups of TOKENS).
#include "common.glsl"
#if DOT
#include "byte_dot.glsl"
#define DOT4(a, b) BYTE_DOT(a, b)
#else
int byte_of(uint x, int i) { return bitfieldExtract(int(x), 8 * i, 8); }
int DOT4(uint a, uint b) {
    return byte_of(a, 0) * byte_of(b, 0) + byte_of(a, 1) * byte_of(b, 1) + byte_of(a, 2) * byte_of(b, 2) + byte_of(a, 3) * byte_of(b, 3);
}
#endif
#include "args/ternary_linear.h"
layout(push_constant, scalar) uniform Push { TernaryLinearArgs a; };
layout(constant_id = 1) const uint TOKENS = 1;
layout(constant_id = 2) const uint TILES = 1;       // of a workgroup; with SWIGLU gates, then their ups
layout(constant_id = 3) const uint DEPTH = 2;       // chunks on their way
layout(constant_id = 4) const uint SLAB_CHUNKS = 64;  // of x in shared memory: a multiple of width / 32 * DEPTH
layout(constant_id = 5) const uint COPIES_LOG = 4;  // copies of the table
layout(constant_id = 6) const uint NORM = 0;
layout(constant_id = 7) const bool VECTOR = true;
layout(constant_id = 8) const bool SWIGLU = false;
layout(constant_id = 9) const bool QUANTIZED = false;  // x is q
layout(constant_id = 10) const bool SECOND_NORM = false;
#define UNROLL [[unroll]]
#include "ops/ternary.glsl"
#include "ops/ternary_input.glsl"

const uint TILE_ROWS = 32, PARTS = gl_WorkGroupSize.x / 32, PAIRS = SWIGLU ? TILES / 2 : TILES;
const uint STEPS_EACH = SLAB_CHUNKS / PARTS, SLAB = SLAB_CHUNKS * CHUNK_COLUMNS;
#define TILE_PLACE_ROWS(tile)                                                                    \
    ((tile) < a.tiles_1   ? uvec3(0, (tile) * TILE_ROWS, a.rows_0)                               \
     : (tile) < a.tiles_2 ? uvec3(1, a.rows_0 + ((tile) - a.tiles_1) * TILE_ROWS, a.rows_0 + a.rows_1) \
                          : uvec3(2, a.rows_0 + a.rows_1 + ((tile) - a.tiles_2) * TILE_ROWS, a.rows_0 + a.rows_1 + a.rows_2))

shared uvec4 xs[TOKENS * SLAB / 16];
shared int partial[PARTS * TILES * TOKENS * 32];
shared int sums[TOKENS * gl_WorkGroupSize.x / 8];
#if FIVE
const uint COPIES = 1u << COPIES_LOG;
shared uvec2 table[256u << COPIES_LOG];  // weights of the four lower places as bytes; that of the highest in each byte

// An invocation makes an entry's copies or, where there are more invocations than entries, a share of them: in an order that keeps
// lanes out of each other's banks.
void build_table() {
    const uint shares = max(gl_WorkGroupSize.x / 256, 1u), each = max(COPIES / shares, 1u);
    for (uint i = gl_LocalInvocationIndex; i < 256 * shares; i += gl_WorkGroupSize.x) {
        const uint e = i % 256, first = i / 256 * each;
        uint rest = e, lower = 0;
        UNROLL for (uint k = 0; k < 4; k++) {
            lower |= (rest % 3 - 1 & 255u) << (8 * k);
            rest /= 3;
        }
        const uvec2 value = uvec2(lower, (rest % 3 - 1 & 255u) * 0x01010101u);
        if (first < COPIES)
            for (uint k = 0; k < each; k++) table[(e << COPIES_LOG) + first + (k + e) % each] = value;
    }
}
#endif

void main() {
    const uint id = gl_LocalInvocationIndex, row = id % 32, part = id / 32, token0 = gl_WorkGroupID.z * TOKENS;
    const uint chunks = chunks_of(a.in_cols), slabs = (chunks + SLAB_CHUNKS - 1) / SLAB_CHUNKS;
    if (workgroup_index() * PAIRS >= (SWIGLU ? a.tiles_1 : a.tiles)) return;
    uint64_t from[TILES];
    const uint end_tile = SWIGLU ? a.tiles_1 : a.tiles;
    UNROLL for (uint i = 0; i < TILES; i++) {
        const uint tile = min(workgroup_index() * PAIRS + i % PAIRS, end_tile - 1) + i / PAIRS * a.tiles_1;
        from[i] = a.indices + (uint64_t(tile) * chunks * 32 + row) * 16;
    }
    uvec4 w[DEPTH * TILES];
    UNROLL for (uint d = 0; d < DEPTH; d++)
        if (d * PARTS + part < chunks)
            UNROLL for (uint i = 0; i < TILES; i++) w[d * TILES + i] = U32x4(from[i]).v[(d * PARTS + part) * 32];
#if FIVE
    build_table();
    const uint copy = id % COPIES;
#endif
    TokenFactors factors[TOKENS];
    int sum_of_q[TOKENS];
    UNROLL for (uint t = 0; t < TOKENS; t++) {
        if (!QUANTIZED) factors[t] = token_factors(a.x + uint64_t(min(token0 + t, a.tokens - 1)) * a.in_cols * 4);
        sum_of_q[t] = 0;
    }
    int total[TILES * TOKENS];
    UNROLL for (uint i = 0; i < TILES * TOKENS; i++) total[i] = 0;

    for (uint slab = 0; slab < slabs; slab++) {
        if (slab != 0) barrier();
        UNROLL for (uint t = 0; t < TOKENS; t++) {
            const uint token = min(token0 + t, a.tokens - 1);
            if (QUANTIZED) {
                const uint first = slab * (SLAB / 16), all = chunks * (CHUNK_COLUMNS / 16);
                U32x4 q = U32x4(a.x + uint64_t(token) * chunks * CHUNK_COLUMNS);
                for (uint i = id; i < SLAB / 16; i += gl_WorkGroupSize.x)
                    if (first + i < all) xs[t * (SLAB / 16) + i] = q.v[first + i];
            } else {
                const uint64_t x = a.x + uint64_t(token) * a.in_cols * 4;
                for (uint i = id; i < SLAB / 4; i += gl_WorkGroupSize.x) {
                    const ivec4 q = integers(x, slab * SLAB + 4 * i, factors[t]);
                    if (FIVE == 0) sum_of_q[t] += q.x + q.y + q.z + q.w;
                    xs[t * (SLAB / 16) + i / 4][i % 4] = in_order(q, i);
                }
            }
        }
        barrier();
        for (uint n = 0; n < STEPS_EACH; n += DEPTH) {
            UNROLL for (uint d = 0; d < DEPTH; d++) {
                const uint in_slab = (n + d) * PARTS + part, chunk = slab * SLAB_CHUNKS + in_slab;
                if (chunk < chunks) {
#if FIVE
                    UNROLL for (uint j = 0; j < 4; j++) {
                        uint weights[TILES][5];
                        UNROLL for (uint i = 0; i < TILES; i++) {
                            const uint word = w[d * TILES + i][j];
                            uvec2 e[4];
                            UNROLL for (uint b = 0; b < 4; b++) e[b] = table[((word >> (8 * b) & 255u) << COPIES_LOG) + copy];
                            UNROLL for (uint b = 0; b < 4; b++) weights[i][b] = e[b].x;
                            weights[i][4] =
                                (e[0].y & 0xffu) | (e[1].y & 0xff00u) | (e[2].y & 0xff0000u) | (e[3].y & 0xff000000u);
                        }
                        UNROLL for (uint t = 0; t < TOKENS; t++) {
                            const uint first = t * (SLAB / 16) + in_slab * 5 + j * 5 / 4;
                            const uvec4 q[2] = {xs[first], xs[first + 1]};
                            UNROLL for (uint b = 0; b < 5; b++) {
                                const uint at = j * 5 % 4 + b;
                                UNROLL for (uint i = 0; i < TILES; i++) total[i * TOKENS + t] += DOT4(weights[i][b], q[at / 4][at % 4]);
                            }
                        }
                    }
#else
                    UNROLL for (uint t = 0; t < TOKENS; t++) {
                        ivec3 sum[TILES];
                        UNROLL for (uint i = 0; i < TILES; i++) sum[i] = ivec3(0);
                        UNROLL for (uint j = 0; j < 4; j++) {
                            const uvec4 q = xs[t * (SLAB / 16) + in_slab * 4 + j];
                            UNROLL for (uint i = 0; i < TILES; i++) {
                                const uint word = w[d * TILES + i][j];
                                sum[i].x += DOT4(word & 0x03030303u, q.x);
                                sum[i].y += DOT4(word & 0x0c0c0c0cu, q.y);
                                sum[i].z += DOT4(word & 0x30303030u, q.z);
                                sum[i].z += DOT4(word >> 2 & 0x30303030u, q.w);
                            }
                        }
                        UNROLL for (uint i = 0; i < TILES; i++)
                            total[i * TOKENS + t] += sum[i].x + (sum[i].y >> 2) + (sum[i].z >> 4);
                    }
#endif
                    if (chunk + DEPTH * PARTS < chunks)
                        UNROLL for (uint i = 0; i < TILES; i++)
                            w[d * TILES + i] = U32x4(from[i]).v[(chunk + DEPTH * PARTS) * 32];
                }
            }
        }
    }
    UNROLL for (uint i = 0; i < TILES * TOKENS; i++) partial[(part * TILES * TOKENS + i) * 32 + row] = total[i];
    if (FIVE == 0 && !QUANTIZED) UNROLL for (uint t = 0; t < TOKENS; t++) {
        const int sum = subgroupAdd(sum_of_q[t]);
        if (subgroupElect()) sums[t * gl_NumSubgroups + gl_SubgroupID] = sum;
    }
    barrier();
    for (uint item = id; item < PAIRS * TOKENS * 32; item += gl_WorkGroupSize.x) {
        const uint i = item / 32 / TOKENS, t = item / 32 % TOKENS, r = item % 32;
        const uint tile = workgroup_index() * PAIRS + i;
        const uvec3 place = TILE_PLACE_ROWS(tile);  // part, row of y, end of the part
        if (tile >= end_tile || place.y + r >= place.z || token0 + t >= a.tokens) continue;
        int q_sum = 0;
        float back = 0;
        if (QUANTIZED) {
            back = F32(a.factors).v[2 * (token0 + t)];
            if (FIVE == 0) q_sum = I32(a.factors).v[2 * (token0 + t) + 1];
        } else {
            UNROLL for (uint k = 0; k < TOKENS; k++)
                if (k == t) back = 1 / factors[k].a;
            if (FIVE == 0)
                for (uint s = 0; s < gl_NumSubgroups; s++) q_sum += sums[t * gl_NumSubgroups + s];
        }
        int sum = -q_sum, up = -q_sum;
        for (uint p = 0; p < PARTS; p++) {
            sum += partial[((p * TILES + i) * TOKENS + t) * 32 + r];
            if (SWIGLU) up += partial[((p * TILES + PAIRS + i) * TOKENS + t) * 32 + r];
        }
        U16 scales = U16(a.scales);
        float y = float(sum) * (F32(a.centroids).v[place.x * 4 + 2] * bf16_to_float(scales.v[place.y + r]) * back);
        if (SWIGLU) y = silu(y) * (float(up) * (F32(a.centroids).v[6] * bf16_to_float(scales.v[a.rows_0 + place.y + r]) * back));
        const uint64_t at = uint64_t(token0 + t) * a.y_cols * 4;
        if (a.residual != 0) y += F32(a.residual + at).v[place.y + r];
        F32(a.y + at).v[place.y + r] = y;
    }
}

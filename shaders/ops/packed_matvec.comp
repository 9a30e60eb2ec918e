#version 460
//! variant packed_matvec_1 BITS=1
//! variant packed_matvec_1_integers needs=integer_dot BITS=1 INTEGERS
//! variant packed_matvec_2 BITS=2
//! variant packed_matvec_2_integers needs=integer_dot BITS=2 INTEGERS
//! variant packed_matvec_3 BITS=3
//! variant packed_matvec_4 BITS=4
//! variant packed_matvec_8 BITS=8
// y = x W^T for few tokens, W packed in quads of rows (runtime/ops/packed_linear.h). A lane has a run of 32 columns, whose x stays
// in its registers as fp16 with a power of two; 32 lanes have neighbouring runs, PARTS times 32 lanes all of them. Each such group
// takes one quad of rows after another and does not wait for the others; the next DEPTH quads' weights are on their way meanwhile.
// What the lanes of a group have of a row is summed across them, what the PARTS have at the very end.
// From indices to fp16 weights: a byte (6 bits at 3 bits) gives all of its weights through a table in shared memory, with a copy
// for each lane that reads at the same time, so that no two meet in a bank. One bit needs no table: masked into the exponent of an
// fp16 it is 0 or a power of two, and x is multiplied by the inverse of that beforehand; or all is in integers
// (packed_integers.glsl).
// Sums of a run are fp16 (8 bits: fp32), all others fp32. Zero points of blocks come to the product with the sums of x of the
// runs. With scales a for weights below 0 and b for those above, the sums of c x and of |c| x are multiplied by (b + a) / 2 and
// (b - a) / 2. Grid: (workgroups of each part, 1, groups of TOKENS).
#include "common.glsl"
#include "args/packed_linear.h"
layout(push_constant, scalar) uniform Push { PackedLinearArgs a; };
layout(constant_id = 1) const uint TOKENS = 1;
layout(constant_id = 2) const uint PARTS = 1;       // 32 lanes each, side by side
layout(constant_id = 3) const uint CHUNKS = 1;      // runs of a lane, PARTS * 32 apart
layout(constant_id = 4) const uint DEPTH = 2;       // quads of weights on their way
layout(constant_id = 5) const uint SLAB = 1024;     // columns of x that are brought to the lanes at once: a multiple of 32
layout(constant_id = 6) const uint COPIES_LOG = 5;  // copies of the table
layout(constant_id = 7) const uint BLOCK_RUNS = 2;  // block_size / 32
layout(constant_id = 8) const uint NORM = 0;
layout(constant_id = 9) const bool VECTOR = true;
layout(constant_id = 10) const bool SWIGLU = false;
layout(constant_id = 11) const uint QUADS = 8;      // of a workgroup; with SWIGLU of gate and of up
layout(constant_id = 12) const uint CLUSTER = 32;   // lanes that shuffles reach, at most 32
layout(constant_id = 13) const bool APART = false;  // 1 bit: there is room for x and the sums at the same time
layout(constant_id = 14) const uint BLOCKS = 0;       // what blocks have besides a scale: nothing, a zero point, a scale for c < 0
layout(constant_id = 15) const float CENTER = 0;      // with zero points W = (centroid + CENTER - zero) * scale
layout(constant_id = 16) const uint NORM_STRIDE = 0;  // bytes from the norm of one part to that of the next
layout(constant_id = 17) const uint BATCH = 0;        // rounds after which rows are finished: a multiple of DEPTH; 0: all of them
layout(constant_id = 18) const bool ONCE = false;     // a slab has all columns
layout(constant_id = 19) const bool EXACT = false;    // and no more, and tokens are whole groups of TOKENS
#define UNROLL [[unroll]]
#include "ops/packed.glsl"
#include "ops/linear_input.glsl"

#include "ops/packed_table.glsl"
const uint GROUPS = gl_WorkGroupSize.x / (32 * PARTS), PASSES = SWIGLU ? 2 : 1, ROWS = 4 * QUADS;
// Rounds of a workgroup's groups, and rows whose sums are kept.
const uint ROUNDS = (QUADS + GROUPS - 1) / GROUPS, KEPT = BATCH == 0 ? ROWS : 4 * GROUPS * BATCH;
const uint SPLITS = PARTS * (32 / CLUSTER), PITCH = SPLITS | 1;
// Shared memory, in words: first x on its way to the lanes that have it, as fp16 with its power of two behind it (a run takes 17
// words, so that lanes meet in no bank; at 1 bit the sums of the runs lie behind all); in integers units of 34 words, the last two
// their factor and sum. Then the table and, behind it, the sums of rows.
#ifdef INTEGERS
#define RUN_AT(run) ((run) / 2 * 34 + (run) % 2 * 16)
#define FACTOR_AT(run) ((run) / 2 * 34 + 32)
#define SUM_AT(run) ((run) / 2 * 34 + 33)
const uint STAGE = RUN_AT(SLAB / 32);
const bool HAS_SUMS = true;
#else
#define RUN_AT(run) ((run) * 17)
#define FACTOR_AT(run) ((run) * 17 + 16)
#define SUM_AT(run) (SLAB / 32 * 17 + (run))
const uint STAGE = SLAB / 32 * (BITS == 1 ? 18 : 17);
const bool HAS_SUMS = BITS == 1;
#endif
const uint SUMS_AT = APART ? STAGE : TABLE_END, SUMS_END = SUMS_AT + PASSES * KEPT * TOKENS * PITCH;
const uint POOL_WORDS = STAGE > SUMS_END ? STAGE : SUMS_END;
#include "ops/packed_runs.glsl"
#ifdef INTEGERS
#include "ops/packed_integers.glsl"
#endif
shared float squares[NORM == 0 ? 1 : TOKENS * gl_WorkGroupSize.x / 8];

const uint ZEROS = 1, TWO_SCALES = 2;
float16_t centroid_of(uint64_t centroids, uint i) { return float16_t(F32(centroids).v[i]); }
// The lane's entries of the table, made before there is room for them. Where an index has two halves of 4 bits, what these are made
// of: 16 entries have the lower one in common.
#if BITS == 4 || (BITS == 2 && defined(INTEGERS))
const uint AT_ONCE = gl_WorkGroupSize.x >> COPIES_LOG, FIRSTS = (16 + AT_ONCE - 1) / AT_ONCE, ENTRIES = BITS == 4 ? 8 + FIRSTS : 1;
uint first_index(uint n) { return (gl_LocalInvocationIndex >> COPIES_LOG) + n * AT_ONCE; }
#elif BITS == 1
const uint ENTRIES = 1;
#else
const uint ENTRIES = (TABLE + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
#endif
// In integers what the table is made of, and what 0 and 1 stand for; at 1 bit only these.
void make_entries(uint64_t centroids, out ENTRY entries[ENTRIES], out vec2 levels) {
    levels = vec2(0);
#if BITS == 1
    levels = vec2(F32(centroids).v[0], F32(centroids).v[1] - F32(centroids).v[0]);
#elif defined(INTEGERS)
    entries[0] = bytes_of(vec4(F32(centroids).v[0], F32(centroids).v[1], F32(centroids).v[2], F32(centroids).v[3]), levels);
#elif BITS == 4
    UNROLL for (uint i = 0; i < 4; i++) {
        const vec4 four = F32x4(centroids).v[i];
        entries[2 * i] = packFloat2x16(f16vec2(four.xy));
        entries[2 * i + 1] = packFloat2x16(f16vec2(four.zw));
    }
    UNROLL for (uint n = 0; n < FIRSTS; n++)
        entries[8 + n] = packFloat2x16(f16vec2(centroid_of(centroids, min(first_index(n), 15)), float16_t(0)));
#else
    UNROLL for (uint k = 0; k < ENTRIES; k++) {
        const uint e = min(gl_LocalInvocationIndex + k * gl_WorkGroupSize.x, TABLE - 1) >> COPIES_LOG;
#if BITS == 8
        entries[k] = floatBitsToUint(F32(centroids).v[e]);
#elif BITS == 3
        entries[k] = packFloat2x16(f16vec2(centroid_of(centroids, e & INDEX_MASK), centroid_of(centroids, e >> BITS)));
#else
        UNROLL for (uint j = 0; j < 2; j++)
            entries[k][j] = packFloat2x16(
                f16vec2(centroid_of(centroids, e >> (4 * j) & 3), centroid_of(centroids, e >> (4 * j + 2) & 3)));
#endif
    }
#endif
}
// To shared memory; barriers before (what was there is used no more) and behind it are the caller's.
void store_table(ENTRY entries[ENTRIES]) {
#if BITS == 4 || (BITS == 2 && defined(INTEGERS))
    UNROLL for (uint n = 0; n < FIRSTS; n++)
        if (first_index(n) < 16) {
#ifdef INTEGERS
            const uint low = two_bytes(entries[0], first_index(n));
#else
            const uint low = entries[8 + n] & 0xffffu;
#endif
            UNROLL for (uint k = 0; k < 16; k++) {
#ifdef INTEGERS
                const uint high = two_bytes(entries[0], k) << 16;
#else
                const uint high = k % 2 == 0 ? entries[k / 2] << 16 : entries[k / 2] & 0xffff0000u;
#endif
                pool[(k * 16 + first_index(n)) << COPIES_LOG | gl_LocalInvocationIndex % COPIES] = low | high;
            }
        }
#elif BITS != 1
    UNROLL for (uint k = 0; k < ENTRIES; k++) {
        const uint i = gl_LocalInvocationIndex + k * gl_WorkGroupSize.x;
        if (TABLE % gl_WorkGroupSize.x == 0 || i < TABLE) pool[i] = entries[k];
    }
#endif
}

// Which vectors of four columns of a slab an invocation brings. In integers two by two those of a unit's two runs.
#ifdef INTEGERS
const uint LOADS = (SLAB / 8 + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x * 2;
uint vector_of(uint k) {
    return k / 2 * 2 * gl_WorkGroupSize.x + gl_LocalInvocationIndex / 8 * 16 + k % 2 * 8 + gl_LocalInvocationIndex % 8;
}

// Vectors i and i + 8, of both runs of a unit, to shared memory.
void store_unit(const uint i, vec4 x[2], const vec4 weight[2], inout float square) {
    if (SLAB % (8 * gl_WorkGroupSize.x) != 0 && i >= SLAB / 4) return;
    float top = 0, sum = 0;
    UNROLL for (uint h = 0; h < 2; h++) {
        if (NORM != 0) {
            square += dot(x[h], x[h]);
            x[h] *= weight[h];
        }
        top = max(top, max(max(abs(x[h].x), abs(x[h].y)), max(abs(x[h].z), abs(x[h].w))));
        sum += x[h].x + x[h].y + (x[h].z + x[h].w);
    }
    UNROLL for (uint m = 1; m < 8; m *= 2) {
        top = max(top, subgroupShuffleXor(top, m));
        sum += subgroupShuffleXor(sum, m);
    }
    UNROLL for (uint h = 0; h < 2; h++) {
        const uint run = i / 8 + h;
        const uvec2 digits = digits_of(i % 8, x[h], top > 0 ? MOST / top : 0);
        UNROLL for (uint d = 0; d < 2; d++) POOL_WORD(RUN_AT(run) + 2 * (i % 8) + d) = digits[d];
    }
    if (i % 8 == 0) {
        // What is not finite has no integer: the sum carries it.
        POOL_WORD(FACTOR_AT(i / 8)) = floatBitsToUint(top * WORTH);
        POOL_WORD(SUM_AT(i / 8)) = floatBitsToUint(sum);
    }
}
#else
const uint LOADS = (SLAB / 4 + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
uint vector_of(uint k) { return k * gl_WorkGroupSize.x + gl_LocalInvocationIndex; }

// Columns 4 i .. 4 i + 3 of a slab to shared memory, as fp16 with a power of two for each run, whose eight vectors are in
// neighbouring lanes.
void store_columns(const uint i, vec4 x, const vec4 weight, inout float square) {
    if (SLAB % (4 * gl_WorkGroupSize.x) != 0 && i >= SLAB / 4) return;
    if (NORM != 0) {
        square += dot(x, x);
        x *= weight;
    }
    float top = max(max(abs(x.x), abs(x.y)), max(abs(x.z), abs(x.w)));
    UNROLL for (uint m = 1; m < 8; m *= 2) top = max(top, subgroupShuffleXor(top, m));
    const uint exponent = clamp(floatBitsToUint(top) & 0x7f800000u, 0x00800000u, 0x7e800000u);
    x *= uintBitsToFloat(0x7f000000u - exponent);
    const uint run = i / 8;
    if (i % 8 == 0) POOL_WORD(FACTOR_AT(run)) = exponent;
#if BITS == 1
    float sum = x.x + x.y + (x.z + x.w);
    UNROLL for (uint m = 1; m < 8; m *= 2) sum += subgroupShuffleXor(sum, m);
    if (i % 8 == 0) POOL_WORD(SUM_AT(run)) = floatBitsToUint(sum);
    // Columns c and c + 16 are a pair, times the inverse of what their bit is worth.
    UNROLL for (uint e = 0; e < 4; e++) x[e] *= inverse_of_bit(i % 4 * 4 + e);
    vec4 other;
    UNROLL for (uint e = 0; e < 4; e++) other[e] = subgroupShuffleXor(x[e], 4u);
    const bool upper = i % 8 >= 4;
    const vec2 low = upper ? other.zw : x.xy, high = upper ? x.zw : other.xy;
    const uvec2 halves = uvec2(packFloat2x16(f16vec2(low.x, high.x)), packFloat2x16(f16vec2(low.y, high.y)));
    const uint word = i % 4 * 4 + (upper ? 2 : 0);
#else
    const uvec2 halves = uvec2(packFloat2x16(f16vec2(x.xy)), packFloat2x16(f16vec2(x.zw)));
    const uint word = i % 8 * 2;
#endif
    POOL_WORD(RUN_AT(run) + word) = halves.x;
    POOL_WORD(RUN_AT(run) + word + 1) = halves.y;
}
#endif

// Where a push constant is a constant too, nothing waits for it. (The first words of x are asked for before anything else: each line of
// push constants is far away at first.)
uint in_cols() { return EXACT ? SLAB : a.in_cols; }

// What this invocation brings of the SLAB columns of a token's x from `first` on, and the norm's weights of that. Vector i is columns
// 4 i .. 4 i + 3; at 1 bit in integers those of bit i % 8 of a run's bytes.
#if defined(INTEGERS) && BITS == 1
uint column_of(uint i) { return i / 8 * 32 + i % 8; }
#endif
bool full() { return EXACT && LOADS * 4 * gl_WorkGroupSize.x == SLAB; }  // all invocations bring the same
void load_x(const uint token, const uint first, out vec4 x[LOADS]) {
    const uint64_t row = a.x + uint64_t(EXACT ? token : min(token, a.tokens - 1)) * in_cols() * 4;
    UNROLL for (uint k = 0; k < LOADS; k++) {
#if defined(INTEGERS) && BITS == 1
        const uint column = first + column_of(vector_of(k));
        UNROLL for (uint b = 0; b < 4; b++) x[k][b] = full() || column < in_cols() ? F32(row).v[column + 8 * b] : 0;
#else
        x[k] = load_columns(row, first + 4 * vector_of(k), full() ? ~0u : in_cols());
#endif
    }
}
void load_weights(const uint64_t norm, const uint first, out vec4 weight[LOADS]) {
    UNROLL for (uint k = 0; k < LOADS; k++) {
#if defined(INTEGERS) && BITS == 1
        const uint column = first + column_of(vector_of(k));
        UNROLL for (uint b = 0; b < 4; b++) weight[k][b] = NORM == 0 ? 1 : norm_weight(norm, min(column + 8 * b, in_cols() - 1));
#else
        weight[k] = load_norm(norm, first + 4 * vector_of(k), in_cols());
#endif
    }
}

// A lane's run c; in integers two are neighbours.
#ifdef INTEGERS
#define RUN_OF(c) ((columns_part * 32 + lane) * CHUNKS + (c))
#else
#define RUN_OF(c) (((c) * PARTS + columns_part) * 32 + lane)
#endif
bool spread() { return EXACT && PARTS * 32 * CHUNKS * 32 == SLAB; }  // all lanes have CHUNKS runs
#define WORKGROUPS(rows) (((rows) + ROWS - 1) / ROWS)
#define LOAD_QUAD(i, quad)                                                                                             \
    UNROLL for (uint c = 0; c < CHUNKS; c++) {                                                                         \
        U32x4 from = U32x4(indices_at[c] + uint64_t(quad) * (runs * BITS * 16));                                       \
        UNROLL for (uint j = 0; j < BITS; j++) w[(i) * CHUNKS + c][j] = from.v[j * runs];                              \
        scales[(i) * CHUNKS + c] = U32x2(scales_at[c] + uint64_t(quad) * (blocks * 8)).v[0];                           \
        if (BLOCKS == ZEROS) other[(i) * CHUNKS + c].x = U32(other_at[c] + uint64_t(quad) * (blocks * 4)).v[0];        \
        if (BLOCKS == TWO_SCALES) other[(i) * CHUNKS + c] = U32x2(other_at[c] + uint64_t(quad) * (blocks * 8)).v[0];   \
    }

// What is added to an invocation's rows, of those from `first_row` of the workgroup's on, and these rows themselves from their sums.
#define LOAD_RESIDUAL(first_row)                                                                                       \
    UNROLL for (uint k = 0; k < FINISHED; k++) {                                                                       \
        const uint i = id + k * gl_WorkGroupSize.x, row = (first_row) + i % KEPT, t = i / KEPT;                        \
        residual[k] = 0;                                                                                               \
        if (a.residual != 0 && row < rows && token0 + t < a.tokens)                                                    \
            residual[k] = F32(a.residual + (uint64_t(token0 + t) * a.y_cols + a.y_first) * 4).v[y_row + row];          \
    }
#define FINISH_ROWS(first_row)                                                                                         \
    UNROLL for (uint k = 0; k < FINISHED; k++) {                                                                       \
        const uint i = id + k * gl_WorkGroupSize.x, kept = i % KEPT, row = (first_row) + kept, t = i / KEPT;           \
        if (row < rows && t < TOKENS && token0 + t < a.tokens) {                                                       \
            float sum[2] = float[2](0, 0), inv_rms = 1;                                                                \
            UNROLL for (uint pass = 0; pass < PASSES; pass++)                                                          \
                UNROLL for (uint s = 0; s < SPLITS; s++)                                                               \
                    sum[pass] += uintBitsToFloat(POOL_WORD(SUMS_AT + ((pass * TOKENS + t) * KEPT + kept) * PITCH + s)); \
            if (NORM != 0) {                                                                                           \
                float all = 0;                                                                                         \
                for (uint s = 0; s < gl_NumSubgroups; s++) all += squares[t * gl_NumSubgroups + s];                    \
                inv_rms = 1 / sqrt(all / float(in_cols()) + a.eps);                                                    \
            }                                                                                                          \
            float y = sum[0] * inv_rms;                                                                                \
            if (SWIGLU) y = silu(y) * (sum[1] * inv_rms);                                                              \
            F32(a.y + (uint64_t(token0 + t) * a.y_cols + a.y_first) * 4).v[y_row + row] = y + residual[k];             \
        }                                                                                                              \
    }

void main() {
    const uint id = gl_LocalInvocationIndex;
    lane = id % 32;
    const uint columns_part = id / 32 % PARTS, group = id / 32 / PARTS;
    copy_at = id % COPIES << ENTRY_LOG;
    const uint token0 = gl_WorkGroupID.z * TOKENS;
    // x of the lane's runs, SLAB columns at a time through shared memory; the next ones are loaded meanwhile. The first before any
    // weights, behind which they would have to wait.
    uint x[TOKENS * CHUNKS][16];
    float power[TOKENS * CHUNKS], x_sum[TOKENS * CHUNKS];
    vec4 loaded[LOADS], weight[LOADS];
    load_x(token0, 0, loaded);
    const uint runs = (in_cols() + 31) / 32, blocks = in_cols() / (BLOCK_RUNS * 32);

    uint number = workgroup_index(), part = 0, first_tile = 0, rows = a.rows_0, y_row = 0;
    if (!SWIGLU && number >= WORKGROUPS(a.rows_0)) {
        number -= WORKGROUPS(a.rows_0);
        part = 1, first_tile = a.tiles_1, rows = a.rows_1, y_row = a.rows_0;
        if (number >= WORKGROUPS(a.rows_1)) {
            number -= WORKGROUPS(a.rows_1);
            part = 2, first_tile = a.tiles_2, rows = a.rows_2, y_row = a.rows_0 + a.rows_1;
        }
    }
    if (number >= WORKGROUPS(rows)) return;

    const uint64_t norm = a.norm + part * NORM_STRIDE;
    load_weights(norm, 0, weight);
    rows = min(ROWS, rows - number * ROWS);
    y_row += number * ROWS;
    const uint first_quad = first_tile * (TILE_ROWS / 4) + number * QUADS, second_pass = a.tiles_1 * (TILE_ROWS / 4);
    // Quads of the group: first_quad + group + n * GROUPS, n < mine.
    const uint quads = (rows + 3) / 4, mine = (quads + GROUPS - 1 - group) / GROUPS;

    uint64_t indices_at[CHUNKS], scales_at[CHUNKS], other_at[CHUNKS];
    UNROLL for (uint c = 0; c < CHUNKS; c++) {
        const uint run = spread() ? RUN_OF(c) : min(RUN_OF(c), runs - 1);
        indices_at[c] = a.indices + run * 16;
        scales_at[c] = a.scales + (spread() ? run / BLOCK_RUNS : min(run / BLOCK_RUNS, blocks - 1)) * 8;
        other_at[c] = a.of_blocks + min(run / BLOCK_RUNS, blocks - 1) * (BLOCKS == ZEROS ? 4 : 8);
    }
    uvec4 w[DEPTH * CHUNKS][BITS];
    uvec2 scales[DEPTH * CHUNKS], other[DEPTH * CHUNKS];
    UNROLL for (uint d = 0; d < DEPTH; d++)
        if (d < mine) LOAD_QUAD(d, first_quad + group + d * GROUPS)
    ENTRY entries[ENTRIES];
    vec2 levels;
    make_entries(a.centroids + part * ((INDEX_MASK + 1) * 4), entries, levels);
    const uint FINISHED = (KEPT * TOKENS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
    float residual[FINISHED];
    if (BATCH == 0) LOAD_RESIDUAL(0)

    UNROLL for (uint t = 0; t < TOKENS; t++) {
        float square = 0;
        for (uint first = 0; ONCE ? first == 0 : first < runs * 32; first += SLAB) {
            if (t != 0 || first != 0) barrier();
#ifdef INTEGERS
            UNROLL for (uint k = 0; k < LOADS; k += 2)
                store_unit(vector_of(k), vec4[2](loaded[k], loaded[k + 1]), vec4[2](weight[k], weight[k + 1]), square);
#else
            UNROLL for (uint k = 0; k < LOADS; k++) store_columns(vector_of(k), loaded[k], weight[k], square);
#endif
            const bool row_ends = ONCE || first + SLAB >= runs * 32;
            if (!row_ends || t + 1 < TOKENS) {
                load_x(token0 + (row_ends ? t + 1 : t), row_ends ? 0 : first + SLAB, loaded);
                load_weights(norm, row_ends ? 0 : first + SLAB, weight);
            }
            barrier();
            UNROLL for (uint c = 0; c < CHUNKS; c++) {
                const uint run = spread() ? RUN_OF(c) : ONCE ? min(RUN_OF(c), SLAB / 32 - 1) : RUN_OF(c) - first / 32;
                if (ONCE || run < SLAB / 32) {
                    UNROLL for (uint p = 0; p < 16; p++) x[t * CHUNKS + c][p] = POOL_WORD(RUN_AT(run) + p);
                    power[t * CHUNKS + c] = uintBitsToFloat(POOL_WORD(FACTOR_AT(run)));
                    if (HAS_SUMS) {
                        x_sum[t * CHUNKS + c] = uintBitsToFloat(POOL_WORD(SUM_AT(run)));
                    } else if (BLOCKS == ZEROS) {
                        vec2 sum = vec2(0);
                        UNROLL for (uint p = 0; p < 16; p++) sum += vec2(unpackHalf2x16(x[t * CHUNKS + c][p]));
                        x_sum[t * CHUNKS + c] = sum.x + sum.y;
                    }
                }
            }
        }
        if (NORM != 0) {
            const float sum = subgroupAdd(square);
            if (subgroupElect()) squares[t * gl_NumSubgroups + gl_SubgroupID] = sum;
        }
    }
    // Lanes behind the last column of all have none.
    UNROLL for (uint c = 0; c < CHUNKS; c++)
        if (!spread() && RUN_OF(c) >= runs)
            UNROLL for (uint t = 0; t < TOKENS; t++) {
                power[t * CHUNKS + c] = x_sum[t * CHUNKS + c] = 0;
                UNROLL for (uint p = 0; p < 16; p++) x[t * CHUNKS + c][p] = 0;
            }

    uint first_row = 0;
    for (uint pass = 0; pass < PASSES; pass++) {
        const uint64_t centroids = a.centroids + (part + pass) * ((INDEX_MASK + 1) * 4);
        if (pass != 0) make_entries(centroids, entries, levels);
#ifdef INTEGERS
        float of_set[TOKENS * CHUNKS], of_clear[TOKENS * CHUNKS];
        UNROLL for (uint i = 0; i < TOKENS * CHUNKS; i++) of_set[i] = power[i] * levels.y, of_clear[i] = x_sum[i] * levels.x;
#endif
        if (BITS != 1 || (pass == 0 && !APART)) barrier();  // x or the table that was there is used no more
        store_table(entries);
        if (BITS != 1) barrier();
        const uint quad0 = first_quad + group + pass * second_pass;
        for (uint begin = 0;; begin += BATCH) {
            const uint end = BATCH == 0 ? mine : min(begin + BATCH, mine);
            uint sum_at =
                SUMS_AT + (pass * TOKENS * KEPT + group * 4 + lane % 4) * PITCH + columns_part * (32 / CLUSTER) + lane / CLUSTER;
            for (uint n = begin; n < end; n += DEPTH) {
                UNROLL for (uint d = 0; d < DEPTH; d++) {
                    if (d != 0 && n + d >= end) break;
                    float total[TOKENS][4];
                    UNROLL for (uint t = 0; t < TOKENS; t++)
                        UNROLL for (uint r = 0; r < 4; r++) total[t][r] = 0;
#ifdef INTEGERS
                    UNROLL for (uint c = 0; c < CHUNKS; c += 2)
                        UNROLL for (uint r = 0; r < 4; r++) {
                            ivec2 digits[TOKENS];
                            UNROLL for (uint t = 0; t < TOKENS; t++) digits[t] = ivec2(0);
                            UNROLL for (uint h = 0; h < 2; h++)
                                UNROLL for (uint f = 0; f < 8; f++) {
#if BITS == 1
                                    const uint four = four_bits(WORD_OF(w[d * CHUNKS + c + h], r), f);
#else
                                    const uint four = entry(WORD_OF(w[d * CHUNKS + c + h], r * 2 + f / 4), f % 4 * 8);
#endif
                                    UNROLL for (uint t = 0; t < TOKENS; t++)
                                        UNROLL for (uint k = 0; k < 2; k++)
                                            digits[t][k] += BYTE_DOT(four, x[t * CHUNKS + c + h][2 * f + k]);
                                }
                            const float scale = scale_of(scales[d * CHUNKS + c], r);
                            UNROLL for (uint t = 0; t < TOKENS; t++) {
                                const float sum = float((digits[t].x << 8) + digits[t].y);
                                total[t][r] += (sum * of_set[t * CHUNKS + c] + of_clear[t * CHUNKS + c]) * scale;
                            }
                        }
#else
                    UNROLL for (uint c = 0; c < CHUNKS; c++) {
                        const uint i = d * CHUNKS + c;
                        UNROLL for (uint r = 0; r < 4; r++) {
                            PAIR sum[TOKENS], sizes[TOKENS];
                            UNROLL for (uint t = 0; t < TOKENS; t++) sum[t] = sizes[t] = PAIR(0);
                            UNROLL for (uint eighth = 0; eighth < 4; eighth++) {
                                PAIR pairs[4];
                                RUN_PAIRS(w[i], r, eighth, pairs)
                                UNROLL for (uint j = 0; j < 4; j++)
                                    UNROLL for (uint t = 0; t < TOKENS; t++) {
                                        const PAIR columns = TO_PAIR(x[t * CHUNKS + c][4 * eighth + j]);
                                        sum[t] = fma(pairs[j], columns, sum[t]);
                                        if (BLOCKS == TWO_SCALES) sizes[t] = fma(abs(pairs[j]), columns, sizes[t]);
                                    }
                            }
                            float scale = scale_of(scales[i], r), of_sizes = 0, shift = 0;
                            if (BLOCKS == ZEROS) shift = CENTER - float(bitfieldExtract(other[i].x, int(8 * r), 8));
                            if (BLOCKS == TWO_SCALES) {
                                const float below = scale_of(other[i], r);
                                of_sizes = (scale - below) / 2;
                                scale = (scale + below) / 2;
                            }
                            UNROLL for (uint t = 0; t < TOKENS; t++) {
                                float s = float(sum[t].x) + float(sum[t].y);
                                if (BITS == 1) s = s * levels.y + x_sum[t * CHUNKS + c] * levels.x;
                                if (BLOCKS == ZEROS) s += x_sum[t * CHUNKS + c] * shift;
                                s *= scale;
                                if (BLOCKS == TWO_SCALES) s += (float(sizes[t].x) + float(sizes[t].y)) * of_sizes;
                                total[t][r] += s * power[t * CHUNKS + c];
                            }
                        }
                    }
#endif
                    // What takes this quad's place, of this pass or of the next.
                    const uint next = n + d + DEPTH;
                    if (next < mine)
                        LOAD_QUAD(d, quad0 + next * GROUPS)
                    else if (SWIGLU && pass == 0)
                        LOAD_QUAD(d, quad0 + second_pass + d * GROUPS)
                    UNROLL for (uint t = 0; t < TOKENS; t++) {
                        const float sum = row_sum(total[t]);
                        if (lane % CLUSTER < 4) POOL_WORD(sum_at + t * KEPT * PITCH) = floatBitsToUint(sum);
                    }
                    sum_at += GROUPS * 4 * PITCH;
                }
            }
            if (BATCH == 0 || begin + BATCH >= ROUNDS) break;
            barrier();
            LOAD_RESIDUAL(first_row)
            FINISH_ROWS(first_row)
            first_row += KEPT;
            barrier();
        }
    }
    barrier();
    if (BATCH != 0) LOAD_RESIDUAL(first_row)
    FINISH_ROWS(first_row)
}

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
// What the lanes of a group have of a row is summed across them, what the PARTS have at the end of a batch of rows.
// From indices to fp16 weights: a byte (6 bits at 3 bits) gives all of its weights through a table in shared memory, with a copy
// for each lane that reads at the same time, so that no two meet in a bank. One bit needs no table: masked into the exponent of an
// fp16 it is 0 or a power of two, and x is multiplied by the inverse of that beforehand. One and two bits may be in integers instead
// (packed_integers.glsl).
// Sums of a run are fp16 (8 bits: fp32), all others fp32. Zero points of blocks come to the product with the sums of x of the
// runs. With scales a for weights below 0 and b for those above, the sums of c x and of |c| x are multiplied by (b + a) / 2 and
// (b - a) / 2. Grid: (workgroups of each part, 1, groups of TOKENS).
#include "common.glsl"
#include "args/packed_linear.h"
layout(push_constant, scalar) uniform Push { PackedLinearArgs a; };
layout(constant_id = 1) const uint TOKENS = 1;
layout(constant_id = 2) const uint PARTS = 1;       // 32 lanes each, side by side
layout(constant_id = 3) const uint CHUNKS = 1;      // runs of a lane, PARTS * 32 apart; in integers side by side
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
// Where a push constant is known with the pipeline, nothing waits for it.
uint in_cols() { return EXACT ? SLAB : a.in_cols; }
#include "ops/packed_matvec_table.glsl"
#include "ops/packed_matvec_input.glsl"

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

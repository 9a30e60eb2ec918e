#version 460
//! variant packed_chain_1 BITS=1
//! variant packed_chain_2 BITS=2
//! variant packed_chain_3 BITS=3
//! variant packed_chain_4 BITS=4
//! variant packed_chain_8 BITS=8
// What lies between the attention of one layer and that of the next, for one token, in one dispatch: h = residual + o attended;
// h += down swiglu(gate_up rms_norm(h)); q, k, v of rms_norm(h) with the next layer's weights. Steps 0 o, 1 gate, 2 up, 3 down,
// 4 q, k, v are all the product of packed_matvec.comp (its layout, lanes and arithmetic), one code for all of them.
// Every workgroup has some rows of each step. What a step makes is handed on as fp16, eight columns with a power of two each, and
// all workgroups wait until it is there: so no more of them may be started than run at the same time (Capabilities). Meanwhile
// their first weights of the next step are on their way, and its table is made. There are no fences and counters: memory for what
// is handed on has all bits set, a word that has not is there (words are written whole). Grid: (workgroups).
#include "common.glsl"
#include "args/packed_chain.h"
layout(push_constant, scalar) uniform Push { PackedChainArgs a; };
layout(constant_id = 1) const uint ATTENDED = 32;  // columns of o
layout(constant_id = 2) const uint HIDDEN = 32;
layout(constant_id = 3) const uint INNER = 32;     // rows of gate and of up
layout(constant_id = 4) const uint Q_ROWS = 32;
layout(constant_id = 5) const uint KV_ROWS = 32;
// Rows of a workgroup: multiples of 8.
layout(constant_id = 6) const uint HIDDEN_SHARE = 8;
layout(constant_id = 7) const uint INNER_SHARE = 8;
layout(constant_id = 8) const uint QKV_SHARE = 8;
layout(constant_id = 9) const uint CHUNKS = 1;      // runs of a lane
layout(constant_id = 10) const uint COPIES_LOG = 5;
layout(constant_id = 11) const uint BLOCK_RUNS = 2;  // block_size / 32
layout(constant_id = 12) const uint NORM = 1;
layout(constant_id = 13) const uint SUBGROUP = 32;
layout(constant_id = 14) const uint STEPS = 5;   // 4 without q, k, v
layout(constant_id = 15) const bool CPU = false;
layout(constant_id = 16) const uint DEPTH = 2;     // quads of a group that are used or on their way
layout(constant_id = 17) const uint PATIENCE = 1;  // times that an invocation looks for what is handed on before it gives up
const bool VECTOR = true;
const uint CLUSTER = SUBGROUP < 32 ? SUBGROUP : 32;  // lanes that shuffles reach
#define UNROLL [[unroll]]
#include "ops/packed.glsl"
#include "ops/linear_input.glsl"
#include "ops/packed_table.glsl"

const uint GATE = 1, UP = 2, DOWN = 3, QKV = 4;
const uint WIDTH = gl_WorkGroupSize.x, X_WORDS = CHUNKS * 16;
const uint ATTENDED_PARTS = (ATTENDED / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32),
           HIDDEN_PARTS = (HIDDEN / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32),
           INNER_PARTS = (INNER / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32);
// Shared memory in words: the table, the sums of rows, the next table's centroids. At first x of o on its way to its lanes lies
// there, 17 words a run so that lanes meet in no bank, and behind it the powers of its eights (and at 1 bit their sums).
const uint SUMS_AT = TABLE_END, SPLITS = 32 / CLUSTER, CENTROIDS = BITS == 1 ? 0 : 1 << BITS;
const uint POWERS_AT = ATTENDED / 32 * 17, STAGE = POWERS_AT + ATTENDED / 8 * (BITS == 1 ? 2 : 1);
const uint INNER_SUMS = 2 * INNER_SHARE * (HIDDEN_PARTS * SPLITS | 1), O_SUMS = HIDDEN_SHARE * (ATTENDED_PARTS * SPLITS | 1),
           DOWN_SUMS = HIDDEN_SHARE * (INNER_PARTS * SPLITS | 1), QKV_SUMS = QKV_SHARE * (HIDDEN_PARTS * SPLITS | 1);
const uint SUMS_1 = INNER_SUMS > O_SUMS ? INNER_SUMS : O_SUMS, SUMS_2 = DOWN_SUMS > QKV_SUMS ? DOWN_SUMS : QKV_SUMS;
const uint SUMS_END = SUMS_AT + (SUMS_1 > SUMS_2 ? SUMS_1 : SUMS_2), CENTROIDS_AT = SUMS_END > STAGE ? SUMS_END : STAGE;
const uint POOL_WORDS = CENTROIDS_AT + CENTROIDS;
#include "ops/packed_runs.glsl"
shared float squares[WIDTH / SUBGROUP];

// What is handed on by o, up and down, in words: fp16 x, eight columns side by side, as [runs / 32, 4 eights, 32 runs]; a power of
// two for each eight; at 1 bit their sums; by o and down also the sum of squares of each subgroup that may have rows.
layout(buffer_reference, scalar, buffer_reference_align = 4) coherent volatile buffer Handed { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) coherent volatile buffer Handed4 { uvec4 v[]; };
const uint HIDDEN_X = (HIDDEN + 1023) / 1024 * 512, INNER_X = (INNER + 1023) / 1024 * 512;  // words of x
const uint HIDDEN_WORDS = HIDDEN_X + HIDDEN / 8 * 2, INNER_WORDS = INNER_X + INNER / 8 * 2, SQUARES = 512;
// Sums of squares of a workgroup, and of all.
const uint OF_WORKGROUP = (HIDDEN_SHARE + SUBGROUP - 1) / SUBGROUP,
           ALL_SQUARES = (HIDDEN + HIDDEN_SHARE - 1) / HIDDEN_SHARE * OF_WORKGROUP;
const uint HANDED = 2 * (HIDDEN_WORDS + SQUARES) + INNER_WORDS;
uint64_t handed(uint step) {
    return a.handed_on + (step == 0 ? 0 : step == DOWN ? HIDDEN_WORDS + SQUARES : 2 * (HIDDEN_WORDS + SQUARES)) * 4;
}
const uint MISSING = 0xffffffffu;
bool missing(uvec4 v) { return max(max(v.x, v.y), max(v.z, v.w)) == MISSING; }

// Flow is decided by constants alone: NVIDIA's compiler makes dozens of instructions around each shuffle and barrier where
// it does not see that lanes stay together. Workgroups and subgroups that have nothing to do in a round repeat another's.
uint id, workgroup, subgroup32;

// The workgroup's rows of a step and its lanes' part of them.
struct Step {
    uint runs, parts, groups;  // subgroups of 32 lanes: `parts` side by side have all columns
    uint part, group;          // of these lanes
    uint row0, rows;           // within the step's matrix
    uint matrix;               // of q, k, v
    uint quad0, quads, rounds;  // of the workgroup; the group's are quad0 + group + n * groups, n < rounds
    uint64_t indices, scales;
};
// At least as many as are on their way: some may be nobody's.
uint rounds_of(uint share, uint parts) {
    const uint groups = WIDTH / 32 / parts;
    return max((share / 4 + groups - 1) / groups, DEPTH);
}
// Which matrix of the weights.
uint matrix_of(uint step) { return step <= GATE ? step : step - 1; }
// From arguments, not from the constants above: a few loads instead of a select for each size and step.
Step step_of(uint step) {
    const uint sizes = a.steps[4 * step], shape = a.steps[4 * step + 1];
    Step s;
    s.runs = sizes & 0xffffu;
    s.parts = shape >> 17 & 63;
    s.groups = shape >> 23;
    s.group = subgroup32 * (shape & 0x1ffffu) >> 16;  // subgroup32 / parts
    s.part = subgroup32 - s.group * s.parts;
    const uint share = sizes >> 16;
    uint number = workgroup, all = a.steps[4 * step + 2], first = a.steps[4 * step + 3];
    s.matrix = 0;
    if (step == QKV) {
        const uint of_q = (Q_ROWS + QKV_SHARE - 1) / QKV_SHARE, of_kv = (KV_ROWS + QKV_SHARE - 1) / QKV_SHARE;
        if (number >= of_q) {
            s.matrix = number - of_q < of_kv ? 1 : 2;
            number -= s.matrix == 2 ? of_q + of_kv : of_q;
            first = ((Q_ROWS + 31) / 32 + (s.matrix == 2 ? (KV_ROWS + 31) / 32 : 0)) * 8;
            all = KV_ROWS;
        }
    }
    s.row0 = min(number * share, all);
    s.rows = min(share, all - s.row0);
    s.quads = s.rows / 4;
    s.quad0 = first + min(s.row0, all - 4) / 4;  // where it has no rows: any that are there
    s.rounds = step == 0      ? rounds_of(HIDDEN_SHARE, ATTENDED_PARTS)
               : step == DOWN ? rounds_of(HIDDEN_SHARE, INNER_PARTS)
               : step == QKV  ? rounds_of(QKV_SHARE, HIDDEN_PARTS)
                              : rounds_of(INNER_SHARE, HIDDEN_PARTS);
    s.indices = a.weights[3 * matrix_of(step)];
    s.scales = a.weights[3 * matrix_of(step) + 1];
    return s;
}
uint64_t centroids_of(uint step, uint matrix) {
    return a.weights[3 * matrix_of(step) + 2] + (step == UP ? 1 : matrix) * ((INDEX_MASK + 1) * 4);
}

// What a bit stands for at 1 bit: clear, set.
vec2 levels_of(uint step, uint matrix) {
#if BITS == 1
    F32 from = F32(centroids_of(step, matrix));
    return vec2(from.v[0], from.v[1]);
#else
    return vec2(0);
#endif
}

// Weights come as one stream through all steps: while a quad is used, the next ones of the group are on their way. Where a step's
// quads are:
struct Stream {
    uint n, rounds;     // the round that is asked for next
    uint rest;          // rounds behind the first in which the group has a quad of its own
    uint64_t at, scales_at;
    uint stride, scales_stride;  // bytes from round to round
    uint runs, run, chunk;       // the lane's first run; from one to its next
};
Stream stream_of(const Step s) {
    const uint64_t quad = s.quad0 + min(s.group, max(s.quads, 1) - 1);
    const uint scales = s.runs / BLOCK_RUNS * 8;
    return Stream(0, s.rounds, s.quads > s.group ? (s.quads - s.group - 1) / s.groups : 0, s.indices + quad * (s.runs * BITS * 16),
                  s.scales + quad * scales, s.groups * s.runs * (BITS * 16), s.groups * scales, s.runs, s.part * 32 + lane,
                  s.parts * 32);
}
#define LOAD_NEXT(d)                                                                                             \
    {                                                                                                            \
        UNROLL for (uint c = 0; c < CHUNKS; c++) {                                                               \
            const uint run = min(l.run + c * l.chunk, l.runs - 1), i = (d) * CHUNKS + c;                         \
            UNROLL for (uint j = 0; j < BITS; j++) w[i][j] = U32x4(l.at + run * 16).v[j * l.runs];               \
            scales[i] = U32x2(l.scales_at + run / BLOCK_RUNS * 8).v[0];                                          \
        }                                                                                                        \
        l.n++;                                                                                                   \
        if (l.n <= l.rest) l.at += l.stride, l.scales_at += l.scales_stride;                                     \
    }

// The table from centroids in shared memory (fp16; at 8 bits fp32).
#define KEPT(i) POOL_WORD(CENTROIDS_AT + (i))
void store_next_table() {
#if BITS != 1
    [[dont_unroll]] for (uint first = 0; first < TABLE; first += 4 * WIDTH)
        UNROLL for (uint j = 0; j < 4; j++) {
            const uint i = first + j * WIDTH + id, e = i >> COPIES_LOG;
#if BITS == 8
            const uint made = KEPT(e);
#elif BITS == 2
            const uvec2 made = uvec2(KEPT(e & 3) | KEPT(e >> 2 & 3) << 16, KEPT(e >> 4 & 3) | KEPT(e >> 6 & 3) << 16);
#else
            const uint made = KEPT(e & INDEX_MASK) | KEPT(e >> BITS & INDEX_MASK) << 16;
#endif
            if (TABLE % (4 * WIDTH) == 0 || i < TABLE) pool[i] = made;
        }
#endif
}
float centroid_to_be(uint step, uint matrix) { return BITS == 1 ? 0 : F32(centroids_of(step, matrix)).v[id & INDEX_MASK]; }
void keep_centroid(float c) {
    if (BITS != 1 && id <= INDEX_MASK) KEPT(id) = BITS == 8 ? floatBitsToUint(c) : packFloat2x16(f16vec2(c, 0));
}

// Where the pair p of columns lies in x: at 1 bit even ones (columns p, p + 16) took the place of the lower half's words.
#if BITS == 1
#define X_OF(c, p) x[16 * (c) + (p) / 8 * 4 + (p) % 8 / 2 + (p) % 2 * 8]
#else
#define X_OF(c, p) x[16 * (c) + (p)]
#endif
uint scaled(uint halves, float16_t by) { return packFloat2x16(unpackFloat2x16(halves) * by); }
uint scaled(uint halves, f16vec2 by) { return packFloat2x16(unpackFloat2x16(halves) * by); }

// The bits of a float, but never those of MISSING, which is a NaN.
uint whole(float v) { return isnan(v) ? 0x7fc00000u : floatBitsToUint(v); }

// Eight columns of neighbouring lanes, one each, as fp16 with a power of two: that power; the sum; a lane with an even number
// gets the halves of its own and the next column.
uint half_pair(float v, out float power_of, out float sum) {
    float top = abs(v);
    UNROLL for (uint m = 1; m < 8; m *= 2) top = max(top, subgroupShuffleXor(top, m));
    const uint exponent = clamp(floatBitsToUint(top) & 0x7f800000u, 0x00800000u, 0x7e800000u);
    power_of = uintBitsToFloat(exponent);
    v *= uintBitsToFloat(0x7f000000u - exponent);
    sum = v;
#if BITS == 1
    UNROLL for (uint m = 1; m < 8; m *= 2) sum += subgroupShuffleXor(sum, m);
#endif
    return packFloat2x16(f16vec2(v, subgroupShuffleXor(v, 1)));
}
// Column `column` of `columns`, whose x take `words`; eight neighbours are there or not together.
void hand_on(uint64_t to, uint words, uint columns, uint column, float v, bool there) {
    float power_of, sum;
    const uint halves = half_pair(v, power_of, sum);
    if (there && column % 2 == 0)
        Handed(to).v[((column / 1024 * 4 + column / 8 % 4) * 32 + column / 32 % 32) * 4 + column / 2 % 4] =
            halves == MISSING ? 0x7fff7fffu : halves;
    if (there && column % 8 == 0) {
        Handed(to).v[words + column / 8] = floatBitsToUint(power_of);
        if (BITS == 1) Handed(to).v[words + columns / 8 + column / 8] = whole(sum);
    }
}
float norm_weight(uint64_t norm, uint i) {
    return NORM == 1 ? load_f32(norm, i) : NORM == 2 ? load_f16(norm, i) : load_bf16(norm, i);
}

void main() {
    id = gl_LocalInvocationIndex;
    workgroup = gl_WorkGroupID.x;
    lane = id % 32;
    subgroup32 = id / 32;
    copy_at = id % COPIES << ENTRY_LOG;
    const uint hidden_row = min(workgroup * HIDDEN_SHARE + id, HIDDEN - 1);
    float h = F32(a.residual).v[hidden_row];

    Step s = step_of(0);
    Stream l = stream_of(s), after = l;
    uvec4 w[DEPTH * CHUNKS][BITS];
    uvec2 scales[DEPTH * CHUNKS];
    UNROLL for (uint d = 0; d < DEPTH; d++) LOAD_NEXT(d)
    float kept = centroid_to_be(0, 0);
    vec2 levels = levels_of(0, 0), next_levels = levels;
    [[dont_unroll]] for (uint eight = id; eight < ATTENDED / 8; eight += WIDTH) {
        const vec4 low = F32x4(a.attended).v[eight * 2], high = F32x4(a.attended).v[eight * 2 + 1];
        const vec4 tops = max(abs(low), abs(high));
        const uint top = floatBitsToUint(max(max(tops.x, tops.y), max(tops.z, tops.w)));
        const uint exponent = clamp(top & 0x7f800000u, 0x00800000u, 0x7e800000u);
        const float inverse = uintBitsToFloat(0x7f000000u - exponent);
        const uint at = eight / 4 * 17 + eight % 4 * 4;
        POOL_WORD(at) = packFloat2x16(f16vec2(low.xy * inverse));
        POOL_WORD(at + 1) = packFloat2x16(f16vec2(low.zw * inverse));
        POOL_WORD(at + 2) = packFloat2x16(f16vec2(high.xy * inverse));
        POOL_WORD(at + 3) = packFloat2x16(f16vec2(high.zw * inverse));
        POOL_WORD(POWERS_AT + eight) = exponent;
        const vec4 both = (low + high) * inverse;
        if (BITS == 1) POOL_WORD(POWERS_AT + ATTENDED / 8 + eight) = floatBitsToUint(both.x + both.y + (both.z + both.w));
    }
    keep_centroid(kept);
    barrier();

    uint x[X_WORDS], patience = PATIENCE;
    float power[CHUNKS], x_sum[CHUNKS];
    [[dont_unroll]] for (uint step = 0; step < STEPS; step++) {
        const bool last = step + 1 == STEPS;
        const float weight = step == 0               ? norm_weight(a.mlp_norm, hidden_row)
                             : step == DOWN && !last ? norm_weight(a.next_norm, hidden_row)
                                                     : 0;
        if (step != UP) {
            uvec4 powers[CHUNKS], sums[CHUNKS];
            if (step == 0) {
                UNROLL for (uint c = 0; c < CHUNKS; c++) {
                    const uint run = min((c * s.parts + s.part) * 32 + lane, s.runs - 1);
                    UNROLL for (uint p = 0; p < 16; p++) x[16 * c + p] = POOL_WORD(run * 17 + p);
                    UNROLL for (uint j = 0; j < 4; j++) {
                        powers[c][j] = POOL_WORD(POWERS_AT + run * 4 + j);
                        sums[c][j] = BITS == 1 ? POOL_WORD(POWERS_AT + ATTENDED / 8 + run * 4 + j) : 0;
                    }
                }
                barrier();
                store_next_table();
            } else {
                // Its powers are looked for first, not to be in the way of those who write; then x is expected to be there, and may
                // come through caches, in which it has never been.
                const uint64_t from = handed(step == GATE ? 0 : step == DOWN ? UP : DOWN);
                const uint words = step == DOWN ? INNER_X : HIDDEN_X, eights = step == DOWN ? INNER / 8 : HIDDEN / 8;
                UNROLL for (uint c = 0; c < CHUNKS; c++) {
                    const uint run = min((c * s.parts + s.part) * 32 + lane, s.runs - 1);
                    do {
                        powers[c] = Handed4(from + words * 4).v[run];
                        if (BITS == 1) sums[c] = Handed4(from + (words + eights) * 4).v[run];
                    } while ((missing(powers[c]) || (BITS == 1 && missing(sums[c]))) && patience != 0 && --patience != 0);
                }
                UNROLL for (uint c = 0; c < CHUNKS; c++) {
                    const uint run = min((c * s.parts + s.part) * 32 + lane, s.runs - 1), at = run / 32 * 128 + run % 32;
                    UNROLL for (uint j = 0; j < 4; j++) {
                        const uvec4 eight = U32x4(from).v[at + j * 32];
                        UNROLL for (uint k = 0; k < 4; k++) x[16 * c + 4 * j + k] = eight[k];
                    }
                }
                uint square = 0;
                if (step != DOWN) {
                    do square = Handed(from).v[HIDDEN_WORDS + min(id, ALL_SQUARES - 1)];
                    while (square == MISSING && patience != 0 && --patience != 0);
                }
                UNROLL for (uint c = 0; c < CHUNKS; c++) {
                    const uint run = min((c * s.parts + s.part) * 32 + lane, s.runs - 1), at = run / 32 * 128 + run % 32;
                    uint most = 0;
                    UNROLL for (uint p = 0; p < 16; p++) most = max(most, x[16 * c + p]);
                    while (most == MISSING && patience != 0 && --patience != 0) {
                        most = 0;
                        UNROLL for (uint j = 0; j < 4; j++) {
                            const uvec4 eight = Handed4(from).v[at + j * 32];
                            UNROLL for (uint k = 0; k < 4; k++) x[16 * c + 4 * j + k] = eight[k], most = max(most, eight[k]);
                        }
                    }
                }
                if (patience == 0) U32(a.in_vain).v[0] = 1;
                if (step != DOWN) {
                    const float sum = subgroupAdd(id < ALL_SQUARES ? uintBitsToFloat(square) : 0);
                    if (id % SUBGROUP == 0) squares[id / SUBGROUP] = sum;
                }
            }
            // One power for the whole run.
            UNROLL for (uint c = 0; c < CHUNKS; c++) {
                const uint most = max(max(powers[c].x, powers[c].y), max(powers[c].z, powers[c].w));
                const bool there = (c * s.parts + s.part) * 32 + lane < s.runs;
                vec4 by;
                UNROLL for (uint j = 0; j < 4; j++) by[j] = uintBitsToFloat(uint(max(int(0x3f800000u + powers[c][j] - most), 0)));
                power[c] = there ? uintBitsToFloat(most) : 0;
#if BITS == 1
                x_sum[c] = there ? dot(by, uintBitsToFloat(sums[c])) : 0;
                // Columns p and p + 16 are a pair, times the inverse of what their bit is worth.
                UNROLL for (uint j = 0; j < 2; j++) {
                    const f16vec2 of_pair = f16vec2(by[j], by[j + 2]);
                    UNROLL for (uint k = 0; k < 4; k++) {
                        const uint low = x[16 * c + 4 * j + k], high = x[16 * c + 4 * j + 8 + k], p = 8 * j + 2 * k;
                        x[16 * c + 4 * j + k] = scaled(scaled(low & 0xffffu | high << 16, of_pair), float16_t(inverse_of_bit(p)));
                        x[16 * c + 4 * j + 8 + k] =
                            scaled(scaled(low >> 16 | high & 0xffff0000u, of_pair), float16_t(inverse_of_bit(p + 1)));
                    }
                }
#else
                UNROLL for (uint p = 0; p < 16; p++) x[16 * c + p] = scaled(x[16 * c + p], float16_t(by[p / 4]));
#endif
            }
        }
        barrier();  // the table is there

        Step next = s;
        if (!last) {
            next = step_of(step + 1);
            kept = centroid_to_be(step + 1, next.matrix);
            next_levels = levels_of(step + 1, next.matrix);
            after = stream_of(next);
        }
        const uint splits = s.parts * SPLITS, pitch = splits | 1;
        const uint first_sum = (step == UP ? INNER_SHARE : 0) + s.group * 4 + lane % 4;
        uint sum_at = SUMS_AT + first_sum * pitch + s.part * SPLITS + lane / CLUSTER;
        [[dont_unroll]] for (uint n = 0; n < s.rounds; n++) {
            float total[4] = float[4](0, 0, 0, 0);
            UNROLL for (uint c = 0; c < CHUNKS; c++)
                UNROLL for (uint r = 0; r < 4; r++) {
                    PAIR sum = PAIR(0);
                    UNROLL for (uint eighth = 0; eighth < 4; eighth++) {
                        PAIR pairs[4];
                        RUN_PAIRS(w[c], r, eighth, pairs)
                        UNROLL for (uint j = 0; j < 4; j++) sum = fma(pairs[j], TO_PAIR(X_OF(c, 4 * eighth + j)), sum);
                    }
                    float t = float(sum.x) + float(sum.y);
#if BITS == 1
                    t = t * (levels.y - levels.x) + x_sum[c] * levels.x;
#endif
                    total[r] += t * scale_of(scales[c], r) * power[c];
                }
            UNROLL for (uint i = 0; i < (DEPTH - 1) * CHUNKS; i++) {
                UNROLL for (uint j = 0; j < BITS; j++) w[i][j] = w[i + CHUNKS][j];
                scales[i] = scales[i + CHUNKS];
            }
            if (l.n == l.rounds) l = after;
            LOAD_NEXT(DEPTH - 1)
            const float sum = row_sum(total);
            if (lane % CLUSTER < 4 && s.group < s.groups && s.group + n * s.groups < s.quads)
                POOL_WORD(sum_at) = floatBitsToUint(sum);
            sum_at += s.groups * 4 * pitch;
        }
        keep_centroid(kept);
        barrier();  // sums are there, the table is used no more

        // Rows, one for each invocation.
        if (step != GATE) {
            const bool mine = id < s.rows;
            float v = 0;
            if (mine) {
                const uint row = SUMS_AT + id * pitch, up_row = row + (step == UP ? INNER_SHARE * pitch : 0);
                float gate = 0;
                [[dont_unroll]] for (uint i = 0; i < splits; i++) {
                    v += uintBitsToFloat(POOL_WORD(up_row + i));
                    gate += uintBitsToFloat(POOL_WORD(row + i));
                }
                if (step == UP || step == QKV) {
                    float all = 0;
                    [[dont_unroll]] for (uint i = 0; i < WIDTH / SUBGROUP; i++) all += squares[i];
                    const float inv_rms = 1 / sqrt(all / float(HIDDEN) + a.eps);
                    v *= inv_rms;
                    if (step == UP) v *= silu(gate * inv_rms);
                }
                const uint at = (s.matrix == 0 ? 0 : Q_ROWS + (s.matrix - 1) * KV_ROWS) + s.row0 + id;
                if (step == QKV) F32(a.qkv).v[at] = v;
                if (step == 0 || step == DOWN) h += v, v = h;
                if (step == DOWN) F32(a.hidden).v[s.row0 + id] = h;
            }
            if (!last) {
                const uint64_t to = handed(step);
                if (step != UP) {
                    const float square = subgroupAdd(v * v);
                    if (id % SUBGROUP == 0 && id < HIDDEN_SHARE && s.rows != 0)
                        Handed(to).v[HIDDEN_WORDS + workgroup * OF_WORKGROUP + id / SUBGROUP] = whole(square);
                    v *= weight;
                }
                hand_on(to, step == UP ? INNER_X : HIDDEN_X, step == UP ? INNER : HIDDEN, s.row0 + id, v, mine);
            }
        }
        if (last)
            for (uint i = workgroup * WIDTH + id; i < HANDED / 4; i += gl_NumWorkGroups.x * WIDTH)
                U32x4(a.cleared).v[i] = uvec4(MISSING);
        else
            store_next_table();
        s = next;
        levels = next_levels;
        // Subgroups of one workgroup share a driver's thread on CPUs: none may wait before all have written.
        if (CPU) barrier();
    }
}

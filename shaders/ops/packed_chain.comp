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
#extension GL_KHR_shader_subgroup_vote : require
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
layout(constant_id = 10) const uint SLABS = 1;      // times eight columns for each invocation: x that is brought to the lanes at once
layout(constant_id = 11) const uint COPIES_LOG = 5;
layout(constant_id = 12) const uint BLOCK_RUNS = 2;  // block_size / 32
layout(constant_id = 13) const uint NORM = 1;
layout(constant_id = 14) const uint SUBGROUP = 32;
layout(constant_id = 15) const uint STEPS = 5;   // 4 without q, k, v
layout(constant_id = 16) const bool CPU = false;
const bool VECTOR = true;
const uint CLUSTER = SUBGROUP < 32 ? SUBGROUP : 32;  // lanes that shuffles reach
#define UNROLL [[unroll]]
#include "ops/packed.glsl"
#include "ops/linear_input.glsl"
#include "ops/packed_table.glsl"

const uint GATE = 1, UP = 2, DOWN = 3, QKV = 4;
const uint WIDTH = gl_WorkGroupSize.x, X_WORDS = CHUNKS * 16;
const uint ATTENDED_PARTS = (ATTENDED / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32), HIDDEN_PARTS = (HIDDEN / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32),
           INNER_PARTS = (INNER / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32);
const uint WIDEST = ATTENDED > INNER ? (ATTENDED > HIDDEN ? ATTENDED : HIDDEN) : (INNER > HIDDEN ? INNER : HIDDEN);
const uint LOADS = (WIDEST / 8 + WIDTH - 1) / WIDTH;

// Shared memory in words: the table; x on its way to its lanes, 17 words a run (at 1 bit 18: the sums of the runs lie behind all);
// the sums of rows.
const uint SLAB_RUNS = SLABS * WIDTH / 4, STAGE_AT = TABLE_END, X_SUMS = STAGE_AT + SLAB_RUNS * 17;
const uint SUMS_AT = X_SUMS + (BITS == 1 ? SLAB_RUNS : 0), SPLITS = 32 / CLUSTER;
const uint MOST_PARTS = ATTENDED_PARTS > INNER_PARTS ? (ATTENDED_PARTS > HIDDEN_PARTS ? ATTENDED_PARTS : HIDDEN_PARTS) : (INNER_PARTS > HIDDEN_PARTS ? INNER_PARTS : HIDDEN_PARTS);
const uint MOST_SPLITS = MOST_PARTS * SPLITS;
const uint INNER_SUMS = 2 * INNER_SHARE * (HIDDEN_PARTS * SPLITS | 1), O_SUMS = HIDDEN_SHARE * (ATTENDED_PARTS * SPLITS | 1),
           DOWN_SUMS = HIDDEN_SHARE * (INNER_PARTS * SPLITS | 1), QKV_SUMS = QKV_SHARE * (HIDDEN_PARTS * SPLITS | 1);
const uint SUMS_1 = INNER_SUMS > O_SUMS ? INNER_SUMS : O_SUMS, SUMS_2 = DOWN_SUMS > QKV_SUMS ? DOWN_SUMS : QKV_SUMS;
const uint POOL_WORDS = SUMS_AT + (SUMS_1 > SUMS_2 ? SUMS_1 : SUMS_2);
#include "ops/packed_runs.glsl"
shared float squares[WIDTH / SUBGROUP];

// What is handed on by o, up and down, in words: fp16 x [columns / 2], a power of two for each eight columns, their sums (at 1 bit);
// by o and down also the sum of squares of each subgroup that may have rows.
layout(buffer_reference, scalar, buffer_reference_align = 4) coherent volatile buffer Handed { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) coherent volatile buffer Handed4 { uvec4 v[]; };
const uint OF_EIGHT = BITS == 1 ? 6 : 5;  // words
const uint HIDDEN_WORDS = HIDDEN / 8 * OF_EIGHT, SQUARES = 512;
// Sums of squares of a workgroup, and of all.
const uint OF_WORKGROUP = (HIDDEN_SHARE + SUBGROUP - 1) / SUBGROUP, ALL_SQUARES = (HIDDEN + HIDDEN_SHARE - 1) / HIDDEN_SHARE * OF_WORKGROUP;
const uint HANDED = 2 * (HIDDEN_WORDS + SQUARES) + INNER / 8 * OF_EIGHT;
uint64_t handed(uint step) { return a.handed_on + (step == 0 ? 0 : step == DOWN ? HIDDEN_WORDS + SQUARES : 2 * (HIDDEN_WORDS + SQUARES)) * 4; }
const uint MISSING = 0xffffffffu;
bool missing(uvec4 v) { return max(max(v.x, v.y), max(v.z, v.w)) == MISSING; }

// Flow is decided by constants and votes alone: NVIDIA's compiler makes dozens of instructions around each shuffle and barrier where
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
uint rounds_of(uint share, uint parts) { return (share / 4 + WIDTH / 32 / parts - 1) / (WIDTH / 32 / parts); }
Step step_of(uint step) {
    Step s;
    const bool of_hidden = step == 0 || step == DOWN;  // rows
    uint groups = WIDTH / 32 / HIDDEN_PARTS;
    s.runs = HIDDEN / 32, s.parts = HIDDEN_PARTS;
    s.part = subgroup32 % HIDDEN_PARTS, s.group = subgroup32 / HIDDEN_PARTS;
    if (step == 0) {
        s.runs = ATTENDED / 32, s.parts = ATTENDED_PARTS, groups = WIDTH / 32 / ATTENDED_PARTS;
        s.part = subgroup32 % ATTENDED_PARTS, s.group = subgroup32 / ATTENDED_PARTS;
    } else if (step == DOWN) {
        s.runs = INNER / 32, s.parts = INNER_PARTS, groups = WIDTH / 32 / INNER_PARTS;
        s.part = subgroup32 % INNER_PARTS, s.group = subgroup32 / INNER_PARTS;
    }
    s.groups = groups;
    uint number = workgroup, tile = step == UP ? (INNER + 31) / 32 : 0, all = of_hidden ? HIDDEN : INNER;
    uint share = of_hidden ? HIDDEN_SHARE : INNER_SHARE;
    s.matrix = 0;
    if (step == QKV) {
        const uint of_q = (Q_ROWS + QKV_SHARE - 1) / QKV_SHARE, of_kv = (KV_ROWS + QKV_SHARE - 1) / QKV_SHARE;
        share = QKV_SHARE, all = Q_ROWS;
        if (number >= of_q) {
            s.matrix = number - of_q < of_kv ? 1 : 2;
            number -= s.matrix == 2 ? of_q + of_kv : of_q;
            tile = (Q_ROWS + 31) / 32 + (s.matrix == 2 ? (KV_ROWS + 31) / 32 : 0);
            all = KV_ROWS;
        }
    }
    s.row0 = min(number * share, all);
    s.rows = min(share, all - s.row0);
    s.quads = s.rows / 4;
    s.quad0 = tile * 8 + s.row0 / 4;
    s.rounds = step == 0      ? rounds_of(HIDDEN_SHARE, ATTENDED_PARTS)
               : step == DOWN ? rounds_of(HIDDEN_SHARE, INNER_PARTS)
               : step == QKV  ? rounds_of(QKV_SHARE, HIDDEN_PARTS)
                              : rounds_of(INNER_SHARE, HIDDEN_PARTS);
    s.indices = step == 0 ? a.o_indices : step == DOWN ? a.down_indices : step == QKV ? a.qkv_indices : a.gate_up_indices;
    s.scales = step == 0 ? a.o_scales : step == DOWN ? a.down_scales : step == QKV ? a.qkv_scales : a.gate_up_scales;
    return s;
}
uint64_t centroids_of(uint step, uint matrix) {
    const uint64_t from = step == 0 ? a.o_centroids : step == DOWN ? a.down_centroids : step == QKV ? a.qkv_centroids : a.gate_up_centroids;
    return from + (step == UP ? 1 : matrix) * ((INDEX_MASK + 1) * 4);
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

// The group's quad n of a step.
#define LOAD_QUAD(s, n)                                                                                                        \
    {                                                                                                                          \
        const uint64_t quad = s.quad0 + min(s.group + (n) * s.groups, max(s.quads, 1) - 1);                                                                        \
        UNROLL for (uint c = 0; c < CHUNKS; c++) {                                                                             \
            const uint run = min((c * s.parts + s.part) * 32 + lane, s.runs - 1);                                              \
            U32x4 from = U32x4(s.indices + quad * (s.runs * BITS * 16) + run * 16);                                            \
            UNROLL for (uint j = 0; j < BITS; j++) w[c][j] = from.v[j * s.runs];                                               \
            scales[c] = U32x2(s.scales + (quad * (s.runs / BLOCK_RUNS) + run / BLOCK_RUNS) * 8).v[0];                          \
        }                                                                                                                      \
    }

// Eight columns to shared memory, with the power of two (the bits of a float) of the whole run, whose four eights are in
// neighbouring lanes.
void stage(uint eight, bool there, uvec4 halves, uint power, float sum) {
    uint most = max(power, subgroupShuffleXor(power, 1));
    most = max(most, subgroupShuffleXor(most, 2));
    const float by = uintBitsToFloat(uint(max(int(0x3f800000u + power - most), 0)));
    const float16_t down = float16_t(by);
    const uint at = STAGE_AT + eight / 4 * 17 + eight % 4 * 4;
    if (there) UNROLL for (uint k = 0; k < 4; k++) POOL_WORD(at + k) = packFloat2x16(unpackFloat2x16(halves[k]) * down);
    if (there && eight % 4 == 0) POOL_WORD(at + 16) = most;
#if BITS == 1
    sum *= by;
    sum += subgroupShuffleXor(sum, 1);
    sum += subgroupShuffleXor(sum, 2);
    if (there && eight % 4 == 0) POOL_WORD(X_SUMS + eight / 4) = floatBitsToUint(sum);
#endif
}

// x of the lane's runs from those that lie in shared memory; at 1 bit columns p and p + 16 are a pair, times the inverse of what
// their bit is worth.
#if BITS == 1
#define TAKE_RUN(c, at)                                                                                                  \
    x_sum[c] = uintBitsToFloat(POOL_WORD(X_SUMS + run));                                                                 \
    UNROLL for (uint k_ = 0; k_ < 8; k_++) {                                                                             \
        const uint low = POOL_WORD(at + k_), high = POOL_WORD(at + k_ + 8);                                              \
        x[16 * c + 2 * k_] = turned(low & 0xffffu | high << 16, inverse_of_bit(2 * k_));                                 \
        x[16 * c + 2 * k_ + 1] = turned(low >> 16 | high & 0xffff0000u, inverse_of_bit(2 * k_ + 1));                     \
    }
uint turned(uint halves, float by) { return packFloat2x16(unpackFloat2x16(halves) * float16_t(by)); }
#else
#define TAKE_RUN(c, at) UNROLL for (uint p_ = 0; p_ < 16; p_++) x[16 * c + p_] = POOL_WORD(at + p_);
#endif
#define TAKE(first_run)                                                              \
    UNROLL for (uint c = 0; c < CHUNKS; c++) {                                       \
        const uint run = (c * s.parts + s.part) * 32 + lane - (first_run);           \
        if (run < SLAB_RUNS && run + (first_run) < s.runs) {                         \
            const uint at = STAGE_AT + run * 17;                                     \
            power[c] = uintBitsToFloat(POOL_WORD(at + 16));                          \
            TAKE_RUN(c, at)                                                          \
        }                                                                            \
    }
#define CLEAR_X                                                   \
    UNROLL for (uint c = 0; c < CHUNKS; c++) {                    \
        power[c] = x_sum[c] = 0;                                  \
        UNROLL for (uint p = 0; p < 16; p++) x[16 * c + p] = 0;   \
    }

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
// Column `column` of `columns`; eight neighbours are there or not together.
void hand_on(uint64_t to, uint columns, uint column, float v, bool there) {
    float power_of, sum;
    const uint halves = half_pair(v, power_of, sum);
    if (there && column % 2 == 0) Handed(to).v[column / 2] = halves == MISSING ? 0x7fff7fffu : halves;
    if (there && column % 8 == 0) {
        Handed(to).v[columns / 2 + column / 8] = floatBitsToUint(power_of);
        if (BITS == 1) Handed(to).v[columns / 2 + columns / 8 + column / 8] = whole(sum);
    }
}
const uint PATIENCE = 1 << 22;  // of an invocation: some seconds

float norm_weight(uint64_t norm, uint i) { return NORM == 1 ? load_f32(norm, i) : NORM == 2 ? load_f16(norm, i) : load_bf16(norm, i); }

void main() {
    id = gl_LocalInvocationIndex;
    workgroup = gl_WorkGroupID.x;
    lane = id % 32;
    subgroup32 = id / 32;
    copy_at = id % COPIES << ENTRY_LOG;
    const uint hidden_row = min(workgroup * HIDDEN_SHARE + id, HIDDEN - 1);
    float h = F32(a.residual).v[hidden_row];

    Step s = step_of(0);
    uvec4 w[CHUNKS][BITS];
    uvec2 scales[CHUNKS];
    LOAD_QUAD(s, 0)
    ENTRY entries[ENTRIES];
    make_entries(centroids_of(0, 0), entries);
    vec2 levels = levels_of(0, 0), next_levels = levels;
    for (uint i = workgroup * WIDTH; i < HANDED / 4; i += gl_NumWorkGroups.x * WIDTH)
        if (i + id < HANDED / 4) U32x4(a.cleared).v[i + id] = uvec4(MISSING);
    uint x[X_WORDS];
    float power[CHUNKS], x_sum[CHUNKS];
    CLEAR_X
    const uint attended_loads = (ATTENDED / 8 + WIDTH - 1) / WIDTH;
    UNROLL for (uint k = 0; k < attended_loads; k++) {
        if (k != 0 && k % SLABS == 0) barrier();
        const bool there = k * WIDTH + id < ATTENDED / 8;
        const uint eight = min(k * WIDTH + id, ATTENDED / 8 - 1);
        const vec4 low = F32x4(a.attended).v[eight * 2], high = F32x4(a.attended).v[eight * 2 + 1];
        const vec4 tops = max(abs(low), abs(high));
        const uint exponent = clamp(floatBitsToUint(max(max(tops.x, tops.y), max(tops.z, tops.w))) & 0x7f800000u, 0x00800000u, 0x7e800000u);
        const float inverse = uintBitsToFloat(0x7f000000u - exponent);
        const uvec4 halves = uvec4(packFloat2x16(f16vec2(low.xy * inverse)), packFloat2x16(f16vec2(low.zw * inverse)),
                                   packFloat2x16(f16vec2(high.xy * inverse)), packFloat2x16(f16vec2(high.zw * inverse)));
        const vec4 both = (low + high) * inverse;
        stage(eight - k / SLABS * SLABS * WIDTH, there, halves, exponent, both.x + both.y + (both.z + both.w));
        if (k % SLABS == SLABS - 1 || k + 1 == attended_loads) {
            barrier();
            TAKE(k / SLABS * SLAB_RUNS)
        }
    }
    store_table(entries);
    barrier();

    [[dont_unroll]] for (uint step = 0; step < STEPS; step++) {
        const uint splits = s.parts * SPLITS, pitch = splits | 1;
        const bool last = step + 1 == STEPS;
        const float weight = step == 0            ? norm_weight(a.mlp_norm, hidden_row)
                             : step == DOWN && !last ? norm_weight(a.next_norm, hidden_row)
                                                  : 0;
        uint sum_at = SUMS_AT + ((step == UP ? INNER_SHARE : 0) + s.group * 4 + lane % 4) * pitch + s.part * SPLITS + lane / CLUSTER;
        [[dont_unroll]] for (uint n = 0; n < s.rounds; n++) {
            float total[4] = float[4](0, 0, 0, 0);
            UNROLL for (uint c = 0; c < CHUNKS; c++)
                UNROLL for (uint r = 0; r < 4; r++) {
                    PAIR sum = PAIR(0);
                    UNROLL for (uint eighth = 0; eighth < 4; eighth++) {
                        PAIR pairs[4];
                        RUN_PAIRS(w[c], r, eighth, pairs)
                        UNROLL for (uint j = 0; j < 4; j++) sum = fma(pairs[j], TO_PAIR(x[16 * c + 4 * eighth + j]), sum);
                    }
                    float t = float(sum.x) + float(sum.y);
#if BITS == 1
                    t = t * (levels.y - levels.x) + x_sum[c] * levels.x;
#endif
                    total[r] += t * scale_of(scales[c], r) * power[c];
                }
            if (n + 1 < s.rounds) LOAD_QUAD(s, n + 1)
            const float sum = row_sum(total);
            if (lane % CLUSTER < 4 && s.group < s.groups && s.group + n * s.groups < s.quads) POOL_WORD(sum_at) = floatBitsToUint(sum);
            sum_at += s.groups * 4 * pitch;
        }
        Step next = s;
        if (!last) {
            next = step_of(step + 1);
            LOAD_QUAD(next, 0)
            make_entries(centroids_of(step + 1, next.matrix), entries);
            next_levels = levels_of(step + 1, next.matrix);
        }
        barrier();  // sums are there, the table is used no more
        if (step == GATE) {
            store_table(entries);
            s = next;
            levels = next_levels;
            barrier();
        } else {

        // Rows, one for each invocation.
        const uint64_t to = handed(step);
        const uint columns = step == UP ? INNER : HIDDEN;
        {
            const bool mine = id < s.rows;
            float v = 0;
            if (mine) {
                const uint row = SUMS_AT + id * pitch, up_row = row + (step == UP ? INNER_SHARE * pitch : 0);
                float gate = 0;
                UNROLL for (uint i = 0; i < MOST_SPLITS; i++)
                    if (i < splits) v += uintBitsToFloat(POOL_WORD(up_row + i));
                if (step == UP)
                    UNROLL for (uint i = 0; i < HIDDEN_PARTS * SPLITS; i++) gate += uintBitsToFloat(POOL_WORD(row + i));
                if (step == UP || step == QKV) {
                    float all = 0;
                    UNROLL for (uint i = 0; i < WIDTH / SUBGROUP; i++) all += squares[i];
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
                if (step != UP) {
                    const float square = subgroupAdd(v * v);
                    if (id % SUBGROUP == 0 && id < HIDDEN_SHARE && s.rows != 0)
                        Handed(to).v[HIDDEN_WORDS + workgroup * OF_WORKGROUP + id / SUBGROUP] = whole(square);
                    v *= weight;
                }
                hand_on(to, columns, s.row0 + id, v, mine);
            }
        }
        if (!last) {
        store_table(entries);
        s = next;
        levels = next_levels;
        // Its subgroups of one workgroup share a driver's thread on CPUs: none may wait before all have written.
        if (CPU) barrier();

        uvec4 halves[LOADS];
        uint powers[LOADS], sums[LOADS], square = 0;
        const uint eights = columns / 8;
#define FETCH(k)                                                                                 \
    {                                                                                            \
        const uint eight = min((k) * WIDTH + id, eights - 1);                                    \
        halves[k] = Handed4(to).v[eight];                                                        \
        powers[k] = Handed(to).v[columns / 2 + eight];                                           \
        sums[k] = BITS == 1 ? Handed(to).v[columns / 2 + eights + eight] : 0;                    \
    }
#define FETCH_SQUARE square = Handed(to).v[HIDDEN_WORDS + min(id, ALL_SQUARES - 1)];
        UNROLL for (uint k = 0; k < LOADS; k++)
            if (k * WIDTH < eights) FETCH(k)
        uint patience = PATIENCE;
        if (step != UP) {
            FETCH_SQUARE
            while (subgroupAny(square == MISSING) && --patience != 0) FETCH_SQUARE
            const float sum = subgroupAdd(id < ALL_SQUARES ? uintBitsToFloat(square) : 0);
            if (id % SUBGROUP == 0) squares[id / SUBGROUP] = sum;
        }
        CLEAR_X
        UNROLL for (uint k = 0; k < LOADS; k++)
            if (k * WIDTH < eights) {
                if (k != 0 && k % SLABS == 0) barrier();
                while (subgroupAny(missing(halves[k]) || powers[k] == MISSING || sums[k] == MISSING) && --patience != 0) FETCH(k)
                const bool there = k * WIDTH + id < eights;
                stage(min(k * WIDTH + id, eights - 1) - k / SLABS * SLABS * WIDTH, there, halves[k], powers[k], uintBitsToFloat(sums[k]));
                if (k % SLABS == SLABS - 1 || (k + 1) * WIDTH >= eights) {
                    barrier();
                    TAKE(k / SLABS * SLAB_RUNS)
                }
            }
        if (patience == 0) U32(a.in_vain).v[0] = 1;
        }
        }
    }
}

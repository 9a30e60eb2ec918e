#version 460
//! variant packed_layers_1_f16 BITS=1 CACHE_f16
//! variant packed_layers_2_f16 BITS=2 CACHE_f16
//! variant packed_layers_3_f16 BITS=3 CACHE_f16
//! variant packed_layers_4_f16 BITS=4 CACHE_f16
//! variant packed_layers_8_f16 BITS=8 CACHE_f16
//! variant packed_layers_1_bf16 BITS=1 CACHE_bf16
//! variant packed_layers_2_bf16 BITS=2 CACHE_bf16
//! variant packed_layers_3_bf16 BITS=3 CACHE_bf16
//! variant packed_layers_4_bf16 BITS=4 CACHE_bf16
//! variant packed_layers_8_bf16 BITS=8 CACHE_bf16
// All layers of a model for one token, in one dispatch. Steps of a layer: 0 q, k, v of rms_norm(h); 1 h += o attention(q, k, v);
// 2 gate and 3 up of rms_norm(h); 4 h += down(swiglu). All are the product of packed_matvec.comp (its layout, lanes and arithmetic),
// one code for all of them; the attention comes before o.
// Every workgroup has some rows of each step. What a step makes is handed on (handed_on.glsl) as fp16, eight columns with a power of
// two each, and all workgroups wait until it is there: so no more of them may be started than run at the same time (Capabilities).
// Meanwhile their first weights of the next step are on their way, and its table is made.
// There are three memories for what is handed on in a layer, which take turns. Who computes a layer's gates has seen that all have
// handed on o: nobody reads any more what layers before it handed on, and nobody writes for the next one, whose memory is made
// empty then. A fence in front of down makes that known before anybody can go on to the next layer.
// Grid: (workgroups).
#pragma use_vulkan_memory_model
#extension GL_KHR_memory_scope_semantics : require
#include "common.glsl"
#include "args/packed_layers.h"
layout(push_constant, scalar) uniform Push { PackedLayersArgs a; };
layout(constant_id = 1) const uint HIDDEN = 32;
layout(constant_id = 2) const uint INNER = 32;     // rows of gate and of up
layout(constant_id = 3) const uint Q_ROWS = 32;
layout(constant_id = 4) const uint KV_ROWS = 32;
// Rows of a workgroup: multiples of 8.
layout(constant_id = 5) const uint HIDDEN_SHARE = 8;
layout(constant_id = 6) const uint INNER_SHARE = 8;
layout(constant_id = 7) const uint QKV_SHARE = 8;
layout(constant_id = 8) const uint CHUNKS = 1;      // runs of a lane
layout(constant_id = 9) const uint COPIES_LOG = 5;
layout(constant_id = 10) const uint BLOCK_RUNS = 2;  // block_size / 32
layout(constant_id = 11) const uint NORM = 1;
layout(constant_id = 12) const uint SUBGROUP = 32;
layout(constant_id = 13) const bool CPU = false;
layout(constant_id = 14) const uint PATIENCE = 1;   // times that an invocation looks for what is handed on before it gives up
layout(constant_id = 15) const uint HEAD_DIM = 32;
layout(constant_id = 16) const uint PARTS = 1;      // of the context, at most
layout(constant_id = 17) const uint SHORTEST = 64;  // keys of a part, at least
layout(constant_id = 18) const uint KEYS = 1;       // of a slot at once
layout(constant_id = 19) const bool SKIP = false;   // groups of lanes do nothing in rounds in which they have no quad
const bool VECTOR = true;
const uint CLUSTER = SUBGROUP < 32 ? SUBGROUP : 32;  // lanes that shuffles reach
#define UNROLL [[unroll]]
#include "ops/packed.glsl"
#include "ops/linear_input.glsl"
#include "ops/packed_table.glsl"
#include "ops/decode_attention_cache.glsl"

const uint QKV = 0, O = 1, GATE = 2, UP = 3, DOWN = 4;
const uint WIDTH = gl_WorkGroupSize.x, X_WORDS = CHUNKS * 16;
#define PARTS_OF(columns) (((columns) / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32))
const uint Q_PARTS = PARTS_OF(Q_ROWS), HIDDEN_PARTS = PARTS_OF(HIDDEN), INNER_PARTS = PARTS_OF(INNER);
// Shared memory in words: the table, the sums of rows, the next table's centroids. The attention uses the place of the first two.
const uint SUMS_AT = TABLE_END, SPLITS = 32 / CLUSTER, CENTROIDS = BITS == 1 ? 0 : 1 << BITS;
const uint INNER_SUMS = 2 * INNER_SHARE * (HIDDEN_PARTS * SPLITS | 1), O_SUMS = HIDDEN_SHARE * (Q_PARTS * SPLITS | 1),
           DOWN_SUMS = HIDDEN_SHARE * (INNER_PARTS * SPLITS | 1), QKV_SUMS = QKV_SHARE * (HIDDEN_PARTS * SPLITS | 1);
const uint SUMS_1 = INNER_SUMS > O_SUMS ? INNER_SUMS : O_SUMS, SUMS_2 = DOWN_SUMS > QKV_SUMS ? DOWN_SUMS : QKV_SUMS;
const uint SUMS_END = SUMS_AT + (SUMS_1 > SUMS_2 ? SUMS_1 : SUMS_2);
const uint TEAM = WIDTH / SUBGROUP < 16 ? WIDTH / SUBGROUP : 16;  // subgroups that attend
const uint ATTEND_END = TEAM * (2 + HEAD_DIM), JOIN_END = PARTS * (HEAD_DIM + 2);
const uint ATTENTION_END = ATTEND_END > JOIN_END ? ATTEND_END : JOIN_END;
const uint CENTROIDS_AT = SUMS_END > ATTENTION_END ? SUMS_END : ATTENTION_END;
const uint POOL_WORDS = CENTROIDS_AT + CENTROIDS;
#include "ops/packed_runs.glsl"
#include "ops/handed_on.glsl"
shared float shared_squares;
shared uvec2 addresses[32];  // of two layers, as in a.table

// What is handed on in a layer, in words: q, k, v (fp32); what is attended to, o and down as h times the next norm's weights, up:
// vectors; of o and down also the sum of squares of each subgroup that may have rows; parts of the attention.
const uint VECTOR_HIDDEN = VECTOR_WORDS(HIDDEN), SQUARES = 512;
const uint QKV_AT = 0, ATTENDED_AT = Q_ROWS + 2 * KV_ROWS, O_AT = ATTENDED_AT + VECTOR_WORDS(Q_ROWS),
           DOWN_AT = O_AT + VECTOR_HIDDEN + SQUARES, UP_AT = DOWN_AT + VECTOR_HIDDEN + SQUARES,
           PARTIAL_AT = UP_AT + VECTOR_WORDS(INNER);
const uint HANDED = (PARTIAL_AT + Q_ROWS / HEAD_DIM * PARTS * (HEAD_DIM + 2) + 3) / 4 * 4;
// Sums of squares of a workgroup, and of all.
const uint OF_WORKGROUP = (HIDDEN_SHARE + SUBGROUP - 1) / SUBGROUP,
           ALL_SQUARES = (HIDDEN + HIDDEN_SHARE - 1) / HIDDEN_SHARE * OF_WORKGROUP;
uint third_after(uint third) { return third == 2 ? 0 : third + 1; }
uint third_before(uint third) { return third == 0 ? 2 : third - 1; }
uint64_t third_of_handed(uint third) { return a.handed_on + third * (HANDED * 4); }

// Flow is decided by constants alone: NVIDIA's compiler makes dozens of instructions around each shuffle and barrier where
// it does not see that lanes stay together. Workgroups and subgroups that have nothing to do in a round repeat another's (but for SKIP).
uint id, workgroup, subgroup32;
#include "ops/layers_attention.glsl"

const uint ATTENTION_NORM = 12, MLP_NORM = 13, CACHE_K = 14, CACHE_V = 15;  // in the table
uint64_t address(uint layer, uint i) { return packUint2x32(addresses[layer % 2 * 16 + i]); }

// What this workgroup and its groups of lanes have of each step: first row of its matrix, rows, matrix of q, k, v; for 32
// lanes: bytes to their first quad and to its scales, rounds in which they have a quad of their own, their part of the columns and
// group.
shared uvec3 of_workgroup[5];
shared uvec4 of_lanes[5 * (WIDTH / 32)];
void divide(uint step, uint lanes32) {
    const uint runs = a.steps[4 * step] & 0xffffu, share = a.steps[4 * step] >> 16;
    const uint parts = a.steps[4 * step + 1] & 0xffffu, groups = a.steps[4 * step + 1] >> 16;
    uint number = workgroup, rows = a.steps[4 * step + 2], first = a.steps[4 * step + 3], matrix = 0;
    if (step == QKV) {
        const uint of_q = (Q_ROWS + QKV_SHARE - 1) / QKV_SHARE, of_kv = (KV_ROWS + QKV_SHARE - 1) / QKV_SHARE;
        if (number >= of_q) {
            matrix = number - of_q < of_kv ? 1 : 2;
            number -= matrix == 2 ? of_q + of_kv : of_q;
            first = ((Q_ROWS + 31) / 32 + (matrix == 2 ? (KV_ROWS + 31) / 32 : 0)) * 8;
            rows = KV_ROWS;
        }
    }
    const uint row0 = min(number * share, rows), mine = min(share, rows - row0), quads = mine / 4;
    const uint group = lanes32 / parts;
    // Where there are no rows: any quad that is there.
    const uint quad = first + min(row0, rows - 4) / 4 + min(group, max(quads, 1) - 1);
    of_workgroup[step] = uvec3(row0, mine, matrix);
    of_lanes[step * (WIDTH / 32) + lanes32] = uvec4(quad * (runs * BITS * 16), quad * (runs / BLOCK_RUNS * 8),
                                                    group < groups && group < quads ? (quads - group - 1) / groups + 1 : 0,
                                                    lanes32 % parts | group << 16);
}
struct Step {
    uint runs, parts, groups;  // subgroups of 32 lanes: `parts` side by side have all columns
    uint part, group;          // of these lanes
    uint rounds;
};
// At least as many as are on their way: some may be nobody's.
uint rounds_of(uint share, uint parts) {
    const uint groups = WIDTH / 32 / parts;
    return max((share / 4 + groups - 1) / groups, 2);
}
Step step_of(uint step) {
    const uint place = of_lanes[step * (WIDTH / 32) + subgroup32].w;
    Step s;
    s.runs = a.steps[4 * step] & 0xffffu;
    s.parts = a.steps[4 * step + 1] & 0xffffu;
    s.groups = a.steps[4 * step + 1] >> 16;
    s.part = place & 0xffffu;
    s.group = place >> 16;
    s.rounds = step == O      ? rounds_of(HIDDEN_SHARE, Q_PARTS)
               : step == DOWN ? rounds_of(HIDDEN_SHARE, INNER_PARTS)
               : step == QKV  ? rounds_of(QKV_SHARE, HIDDEN_PARTS)
                              : rounds_of(INNER_SHARE, HIDDEN_PARTS);
    return s;
}
// Where a step's weights are in the table.
uint weights_of(uint step) { return 3 * (step <= GATE ? step : step - 1); }
uint64_t centroids_of(uint layer, uint step) {
    return address(layer, weights_of(step) + 2) + (step == UP ? 1 : of_workgroup[step].z) * ((INDEX_MASK + 1) * 4);
}

// What a bit stands for at 1 bit: clear, set.
vec2 levels_at(uint64_t centroids) {
#if BITS == 1
    return vec2(F32(centroids).v[0], F32(centroids).v[1]);
#else
    return vec2(0);
#endif
}

// Weights come as one stream through all steps: while a quad is used, the next of the group is on its way (more of them are slower,
// docs/rejected.md). Where a step's quads are:
struct Stream {
    uint n, rounds;     // the round that is asked for next
    uint rest;          // rounds behind the first in which the group has a quad of its own
    uint64_t at, scales_at;
    uint stride, scales_stride;  // bytes from round to round
    uint runs, run, chunk;       // the lane's first run; from one to its next
};
Stream stream_of(uint layer, uint step, const Step s) {
    const uvec4 mine = of_lanes[step * (WIDTH / 32) + subgroup32];
    return Stream(0, s.rounds, max(mine.z, 1) - 1, address(layer, weights_of(step)) + mine.x, address(layer, weights_of(step) + 1) + mine.y,
                  s.groups * s.runs * (BITS * 16), s.groups * (s.runs / BLOCK_RUNS * 8), s.runs, s.part * 32 + lane, s.parts * 32);
}
#define LOAD_NEXT(w, scales)                                                                                     \
    {                                                                                                            \
        UNROLL for (uint c = 0; c < CHUNKS; c++) {                                                               \
            const uint run = min(l.run + c * l.chunk, l.runs - 1);                                               \
            UNROLL for (uint j = 0; j < BITS; j++) w[c][j] = U32x4(l.at + run * 16).v[j * l.runs];               \
            scales[c] = U32x2(l.scales_at + run / BLOCK_RUNS * 8).v[0];                                          \
        }                                                                                                        \
        l.n++;                                                                                                   \
        if (l.n <= l.rest) l.at += l.stride, l.scales_at += l.scales_stride;                                     \
    }
// The quad two behind the one that was used takes its place.
#define NEXT_QUAD(w, scales)                                                                                     \
    {                                                                                                            \
        if (l.n == l.rounds) l = after;                                                                          \
        LOAD_NEXT(w, scales)                                                                                     \
    }
// The four rows' products of a quad and x, `total`. There are two copies of this code and of its arrays, so that no quad is moved, for
// which it would have to be there.
#define USE_QUAD(w, scales)                                                                                      \
    {                                                                                                            \
        UNROLL for (uint c = 0; c < CHUNKS; c++)                                                                 \
            UNROLL for (uint r = 0; r < 4; r++) {                                                                \
                PAIR sum = PAIR(0);                                                                              \
                UNROLL for (uint eighth = 0; eighth < 4; eighth++) {                                             \
                    PAIR pairs[4];                                                                               \
                    RUN_PAIRS(w[c], r, eighth, pairs)                                                            \
                    UNROLL for (uint j = 0; j < 4; j++) sum = fma(pairs[j], TO_PAIR(X_OF(c, 4 * eighth + j)), sum); \
                }                                                                                                \
                float t = float(sum.x) + float(sum.y);                                                           \
                if (BITS == 1) t = t * (levels.y - levels.x) + x_sum[c] * levels.x;                              \
                total[r] += t * scale_of(scales[c], r) * power[c];                                               \
            }                                                                                                    \
        NEXT_QUAD(w, scales)                                                                                     \
    }

// The table from centroids in shared memory (fp16; at 8 bits fp32).
#define KEPT(i) POOL_WORD(CENTROIDS_AT + (i))
void store_next_table() {
    // An invocation's entries have the lower weight in common where 16 of them are made at once.
#if BITS == 4
    if (WIDTH >> COPIES_LOG == 16) {
        const uint low = KEPT(id >> COPIES_LOG);
        UNROLL for (uint j = 0; j < 16; j++) pool[j * WIDTH + id] = low | KEPT(j) << 16;
        return;
    }
#endif
#if BITS != 1
    UNROLL for (uint first = 0; first < TABLE; first += WIDTH) {
        const uint i = first + id, e = i >> COPIES_LOG;
#if BITS == 8
        const uint made = KEPT(e);
#elif BITS == 2
        const uvec2 made = uvec2(KEPT(e & 3) | KEPT(e >> 2 & 3) << 16, KEPT(e >> 4 & 3) | KEPT(e >> 6 & 3) << 16);
#else
        const uint made = KEPT(e & INDEX_MASK) | KEPT(e >> BITS & INDEX_MASK) << 16;
#endif
        if (TABLE % WIDTH == 0 || i < TABLE) pool[i] = made;
    }
#endif
}
float centroid_at(uint64_t centroids) { return BITS == 1 ? 0 : F32(centroids).v[id & INDEX_MASK]; }
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

// The lane's run c of a step's x.
#define RUN_OF(c) min(((c) * s.parts + s.part) * 32 + lane, s.runs - 1)
// Powers (and sums) and x as they are in what is handed on; into `most` goes the largest of the words: whether one is MISSING.
#define LOAD_POWERS(Words) UNROLL for (uint c = 0; c < CHUNKS; c++) powers[c] = Words(powers_at).v[RUN_OF(c)];
#define LOOK_AT_POWERS UNROLL for (uint c = 0; c < CHUNKS; c++) most = max(most, largest_of(powers[c]));
#define TAKE_SUMS(Words)                                                                                         \
    if (BITS == 1) UNROLL for (uint c = 0; c < CHUNKS; c++) {                                                    \
        sums[c] = Words(powers_at + columns / 8 * 4).v[RUN_OF(c)];                                               \
        most = max(most, largest_of(sums[c]));                                                                   \
    }
#define TAKE_X(Words)                                                                                            \
    UNROLL for (uint c = 0; c < CHUNKS; c++)                                                                     \
        UNROLL for (uint j = 0; j < 4; j++) {                                                                    \
            const uvec4 eight = Words(from).v[RUN_OF(c) / 32 * 128 + RUN_OF(c) % 32 + j * 32];                   \
            UNROLL for (uint k = 0; k < 4; k++) x[16 * c + 4 * j + k] = eight[k], most = max(most, eight[k]);    \
        }

// h of this workgroup's rows, times weights, with the sums of its squares.
void hand_on_hidden(uint64_t to, float h, float weight, bool there) {
    const float square = subgroupAdd(there ? h * h : 0);
    if (id % SUBGROUP == 0 && id < HIDDEN_SHARE && workgroup * HIDDEN_SHARE < HIDDEN)
        Handed(to).v[VECTOR_HIDDEN + workgroup * OF_WORKGROUP + id / SUBGROUP] = whole(square);
    hand_on(to, HIDDEN, workgroup * HIDDEN_SHARE + id, h * weight, there);
}

void main() {
    const uint position = U32(a.position).v[0];
    if (position >= a.max_positions) return;
    const uint turn = U32(a.turn).v[0];
    id = gl_LocalInvocationIndex;
    workgroup = gl_WorkGroupID.x;
    lane = id % 32;
    subgroup32 = id / 32;
    copy_at = id % COPIES << ENTRY_LOG;
    const uint hidden_row = min(workgroup * HIDDEN_SHARE + id, HIDDEN - 1);
    const bool of_hidden = id < HIDDEN_SHARE && workgroup * HIDDEN_SHARE + id < HIDDEN;
    float h = F32(a.embedded).v[hidden_row];
    if (id < 16) addresses[id] = U32x2(a.table).v[id];
    [[dont_unroll]] for (uint i = id; i < 5 * (WIDTH / 32); i += WIDTH) divide(i / (WIDTH / 32), i % (WIDTH / 32));
    barrier();

    Step s = step_of(QKV);
    Stream l = stream_of(0, QKV, s), after = l;
    uvec4 w_even[CHUNKS][BITS], w_odd[CHUNKS][BITS];
    uvec2 scales_even[CHUNKS], scales_odd[CHUNKS];
    LOAD_NEXT(w_even, scales_even)
    LOAD_NEXT(w_odd, scales_odd)
    float kept = centroid_at(centroids_of(0, QKV));
    vec2 levels = levels_at(centroids_of(0, QKV)), next_levels = levels;
    // As if a layer before the first handed h on.
    hand_on_hidden(third_of_handed(third_before(turn)) + DOWN_AT * 4, h, norm_weight(address(0, ATTENTION_NORM), hidden_row),
                   of_hidden);
    keep_centroid(kept);
    barrier();

    uint x[X_WORDS], third = turn, layer = 0, step = QKV;
    bool odd = false;  // of the quads that follow
    float power[CHUNKS], x_sum[CHUNKS];
    [[dont_unroll]] for (uint n = 0; n < 5 * a.layers; n++) {
        const bool last = n + 1 == 5 * a.layers;
        const uint64_t here = third_of_handed(third), before = third_of_handed(third_before(third));
        const float weight = step == O               ? norm_weight(address(layer, MLP_NORM), hidden_row)
                             : step == DOWN && !last ? norm_weight(address(layer + 1, ATTENTION_NORM), hidden_row)
                                                     : 0;
        uvec2 next_address = uvec2(0);
        if (step == GATE && id < 16) next_address = U32x2(a.table).v[min(layer + 1, a.layers - 1) * 16 + id];
        if (step == O) {
            // Else compilers keep what is not used any more, and spill weights, for which they have to be there.
            UNROLL for (uint p = 0; p < X_WORDS; p++) x[p] = 0;
            UNROLL for (uint c = 0; c < CHUNKS; c++) power[c] = x_sum[c] = 0;
            attend(here + QKV_AT * 4, here + ATTENDED_AT * 4, here + PARTIAL_AT * 4, address(layer, CACHE_K), address(layer, CACHE_V),
                   position);
        }
        // What was made empty in GATE is so before anybody sees what is handed on from here on.
        if (step == DOWN)
            memoryBarrier(gl_ScopeQueueFamily, gl_StorageSemanticsBuffer,
                          gl_SemanticsAcquireRelease | gl_SemanticsMakeAvailable | gl_SemanticsMakeVisible);
        // x as it was handed on. Powers are looked for first: fewer words are read in vain, in the way of those who write. While they
        // are on their way the table is made.
        const uint64_t from = step == QKV    ? before + DOWN_AT * 4
                              : step == O    ? here + ATTENDED_AT * 4
                              : step == GATE ? here + O_AT * 4
                                             : here + UP_AT * 4;
        const uint columns = step == O ? Q_ROWS : step == DOWN ? INNER : HIDDEN;
        const uint64_t powers_at = from + x_words(columns) * 4;
        uvec4 powers[CHUNKS], sums[CHUNKS];
        UNROLL for (uint c = 0; c < CHUNKS; c++) powers[c] = uvec4(0);
        if (step != UP && s.group == 0) LOAD_POWERS(Handed4)
        store_next_table();
        Step next = s;
        if (!last) {
            const uint next_layer = step == DOWN ? layer + 1 : layer, next_step = step == DOWN ? QKV : step + 1;
            next = step_of(next_step);
            kept = centroid_at(centroids_of(next_layer, next_step));
            next_levels = levels_at(centroids_of(next_layer, next_step));
            after = stream_of(next_layer, next_step, next);
        }
        uint most = 0;
        if (step != UP) {
            LOOK_AT_POWERS
            while (most == MISSING && look_again()) {
                most = 0;
                LOAD_POWERS(Handed4)
                LOOK_AT_POWERS
            }
            if (step == QKV || step == GATE) {
                float squares;
                do {
                    most = 0, squares = 0;
                    if (id >= WIDTH - SUBGROUP)
                        UNROLL for (uint i = 0; i < ALL_SQUARES; i += SUBGROUP) {
                            const uint square = Handed(from).v[VECTOR_HIDDEN + min(i + id % SUBGROUP, ALL_SQUARES - 1)];
                            most = max(most, square);
                            squares += i + id % SUBGROUP < ALL_SQUARES ? uintBitsToFloat(square) : 0;
                        }
                } while (most == MISSING && look_again());
                squares = subgroupAdd(squares);
                if (id == WIDTH - 1) shared_squares = squares;
            }
        }
        barrier();  // the table is there, and all powers that one group has looked for
        if (step != UP) {
            // Through caches, as several groups read the same. They have had none of it since the barrier of memory, or only words of
            // which some were missing.
            most = 0;
            LOAD_POWERS(U32x4)
            TAKE_X(U32x4)
            TAKE_SUMS(U32x4)
            LOOK_AT_POWERS
            while (most == MISSING && look_again()) {
                most = 0;
                LOAD_POWERS(Handed4)
                TAKE_X(Handed4)
                TAKE_SUMS(Handed4)
                LOOK_AT_POWERS
            }
            if (patience == 0) U32(a.in_vain).v[0] = 1;
            // One power for the whole run.
            UNROLL for (uint c = 0; c < CHUNKS; c++) {
                const uint largest = largest_of(powers[c]);
                const bool there = (c * s.parts + s.part) * 32 + lane < s.runs;
                vec4 by;
                UNROLL for (uint j = 0; j < 4; j++) by[j] = uintBitsToFloat(uint(max(int(0x3f800000u + powers[c][j] - largest), 0)));
                power[c] = there ? uintBitsToFloat(largest) : 0;
#if BITS == 1
                x_sum[c] = there ? dot(by, uintBitsToFloat(sums[c])) : 0;
                // Columns p and p + 16 are a pair.
                UNROLL for (uint j = 0; j < 2; j++) {
                    const f16vec2 of_pair = f16vec2(by[j], by[j + 2]);
                    UNROLL for (uint k = 0; k < 4; k++) {
                        const uint low = x[16 * c + 4 * j + k], high = x[16 * c + 4 * j + 8 + k];
                        x[16 * c + 4 * j + k] = scaled(low & 0xffffu | high << 16, of_pair);
                        x[16 * c + 4 * j + 8 + k] = scaled(low >> 16 | high & 0xffff0000u, of_pair);
                    }
                }
#else
                UNROLL for (uint p = 0; p < 16; p++) x[16 * c + p] = scaled(x[16 * c + p], float16_t(by[p / 4]));
#endif
            }
        }
        if (step == GATE) {
            const uint64_t next_third = third_of_handed(third_after(third));
            [[dont_unroll]] for (uint i = workgroup * WIDTH + id; i < HANDED / 4; i += gl_NumWorkGroups.x * WIDTH)
                Handed4(next_third).v[i] = uvec4(MISSING);
        }
        const uint splits = s.parts * SPLITS, pitch = splits | 1;
        const uint first_sum = (step == UP ? INNER_SHARE : 0) + s.group * 4 + lane % 4;
        uint sum_at = SUMS_AT + first_sum * pitch + s.part * SPLITS + lane / CLUSTER;
        uint own_rounds = of_lanes[step * (WIDTH / 32) + subgroup32].z;
        if (SKIP) own_rounds = subgroupBroadcastFirst(own_rounds);
        [[dont_unroll]] for (uint n = 0; n < s.rounds; n++) {
            float total[4] = float[4](0, 0, 0, 0);
            if (!SKIP || n < own_rounds) {
                if (odd) USE_QUAD(w_odd, scales_odd) else USE_QUAD(w_even, scales_even)
            } else {
                if (odd) NEXT_QUAD(w_odd, scales_odd) else NEXT_QUAD(w_even, scales_even)
            }
            odd = !odd;
            const float sum = row_sum(total);
            if (lane % CLUSTER < 4 && n < own_rounds) POOL_WORD(sum_at) = floatBitsToUint(sum);
            sum_at += s.groups * 4 * pitch;
        }
        keep_centroid(kept);
        if (step == GATE && id < 16) addresses[(layer + 1) % 2 * 16 + id] = next_address;
        barrier();  // sums are there, the table is used no more

        // Rows, one for each invocation.
        if (step != GATE) {
            const uvec3 rows = of_workgroup[step];
            const bool mine = id < rows.y;
            float v = 0;
            if (mine) {
                const uint row = SUMS_AT + id * pitch, up_row = row + (step == UP ? INNER_SHARE * pitch : 0);
                float gate = 0;
                [[dont_unroll]] for (uint i = 0; i < splits; i++) {
                    v += uintBitsToFloat(POOL_WORD(up_row + i));
                    gate += uintBitsToFloat(POOL_WORD(row + i));
                }
                if (step == UP || step == QKV) {
                    const float inv_rms = 1 / sqrt(shared_squares / float(HIDDEN) + a.eps);
                    v *= inv_rms;
                    if (step == UP) v *= silu(gate * inv_rms);
                }
                if (step == QKV)
                    Handed(here).v[QKV_AT + (rows.z == 0 ? 0 : Q_ROWS + (rows.z - 1) * KV_ROWS) + rows.x + id] = whole(v);
                if (step == O || step == DOWN) h += v;
                if (last) F32(a.hidden).v[hidden_row] = h;
            }
            if (step == UP) hand_on(here + UP_AT * 4, INNER, rows.x + id, v, mine);
            if (step == O || (step == DOWN && !last)) hand_on_hidden(here + (step == O ? O_AT : DOWN_AT) * 4, h, weight, of_hidden);
        }
        s = next;
        levels = next_levels;
        step = step == DOWN ? QKV : step + 1;
        if (step == QKV) layer++, third = third_after(third);
        // Subgroups of one workgroup share a driver's thread on CPUs: none may wait before all have written.
        if (CPU) barrier();
    }
    if (workgroup == 0 && id == 0) U32(a.turn).v[0] = third;
}

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
// their first weights of the next step are on their way, and its table is made. Grid: (workgroups).
#pragma use_vulkan_memory_model
#extension GL_KHR_memory_scope_semantics : require
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
layout(constant_id = 14) const uint CLUSTER = 32;
const bool VECTOR = true;
#define UNROLL [[unroll]]
#include "ops/packed.glsl"
#include "ops/linear_input.glsl"
#include "ops/packed_table.glsl"

const uint GATE = 1, UP = 2, DOWN = 3, QKV = 4;
const uint WIDTH = gl_WorkGroupSize.x;
const uint ATTENDED_PARTS = (ATTENDED / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32), HIDDEN_PARTS = (HIDDEN / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32),
           INNER_PARTS = (INNER / 32 + CHUNKS * 32 - 1) / (CHUNKS * 32);
const uint WIDEST = ATTENDED > INNER ? (ATTENDED > HIDDEN ? ATTENDED : HIDDEN) : (INNER > HIDDEN ? INNER : HIDDEN);
const uint LOADS = (WIDEST / 8 + WIDTH - 1) / WIDTH;

// Shared memory in words: the table; x on its way to its lanes, 17 words a run (at 1 bit 18: the sums of the runs lie behind all);
// the sums of rows.
const uint SLAB_RUNS = SLABS * WIDTH / 4, STAGE_AT = TABLE_END, X_SUMS = STAGE_AT + SLAB_RUNS * 17;
const uint SUMS_AT = X_SUMS + (BITS == 1 ? SLAB_RUNS : 0), SPLITS = 32 / CLUSTER;
const uint INNER_SUMS = 2 * INNER_SHARE * (HIDDEN_PARTS * SPLITS | 1), O_SUMS = HIDDEN_SHARE * (ATTENDED_PARTS * SPLITS | 1),
           DOWN_SUMS = HIDDEN_SHARE * (INNER_PARTS * SPLITS | 1), QKV_SUMS = QKV_SHARE * (HIDDEN_PARTS * SPLITS | 1);
const uint SUMS_1 = INNER_SUMS > O_SUMS ? INNER_SUMS : O_SUMS, SUMS_2 = DOWN_SUMS > QKV_SUMS ? DOWN_SUMS : QKV_SUMS;
const uint POOL_WORDS = SUMS_AT + (SUMS_1 > SUMS_2 ? SUMS_1 : SUMS_2);
#include "ops/packed_runs.glsl"
shared float squares[WIDTH / 8];

// What is handed on, in words: fp16 x [columns / 2], a power of two for each eight columns, at 1 bit their sums; from o and down
// also the sum of squares of each subgroup with rows.
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Handed { nonprivate uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer Handed4 { nonprivate uvec4 v[]; };
const uint VECTOR_WORDS = WIDEST / 2 + WIDEST / 8 * 2, SQUARES_OF = (HIDDEN_SHARE + 7) / 8;
uint64_t handed(uint step) { return a.handed_on + step * ((VECTOR_WORDS + 2048) * 4); }

uint id, workgroup, subgroup32;

// The workgroup's rows of a step and its lanes' part of them.
struct Step {
    uint runs, parts, groups;  // subgroups of 32 lanes: `parts` side by side have all columns
    uint part, group;          // of these lanes
    uint row0, rows;           // within the step's matrix
    uint matrix;               // of q, k, v
    uint quad0, quads;         // of the group: quad0 + n * groups, n < quads
    uint64_t indices, scales;
};
Step step_of(uint step) {
    Step s;
    const uint columns = step == 0 ? ATTENDED : step == DOWN ? INNER : HIDDEN;
    s.parts = step == 0 ? ATTENDED_PARTS : step == DOWN ? INNER_PARTS : HIDDEN_PARTS;
    s.runs = columns / 32;
    s.groups = WIDTH / 32 / s.parts;
    s.part = subgroup32 % s.parts;
    s.group = subgroup32 / s.parts;
    uint share = step == 0 || step == DOWN ? HIDDEN_SHARE : step == QKV ? QKV_SHARE : INNER_SHARE;
    uint all = step == 0 || step == DOWN ? HIDDEN : step == QKV ? Q_ROWS : INNER;
    uint number = workgroup, tile = step == UP ? (INNER + 31) / 32 : 0;
    s.matrix = 0;
    if (step == QKV && number >= (Q_ROWS + QKV_SHARE - 1) / QKV_SHARE) {
        const uint of_kv = (KV_ROWS + QKV_SHARE - 1) / QKV_SHARE;
        number -= (Q_ROWS + QKV_SHARE - 1) / QKV_SHARE;
        s.matrix = number < of_kv ? 1 : 2;
        number -= s.matrix == 2 ? of_kv : 0;
        tile = (Q_ROWS + 31) / 32 + (s.matrix == 2 ? (KV_ROWS + 31) / 32 : 0);
        all = KV_ROWS;
    }
    s.row0 = min(number * share, all);
    s.rows = min(share, all - s.row0);
    const uint quads = s.rows / 4;
    s.quad0 = tile * 8 + s.row0 / 4 + s.group;
    s.quads = s.group < s.groups && quads > s.group ? (quads - s.group + s.groups - 1) / s.groups : 0;
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

// Weights of one quad.
uvec4 w[CHUNKS][BITS];
uvec2 scales[CHUNKS];
void load_quad(const Step s, uint n) {
    const uint64_t quad = s.quad0 + n * s.groups;
    UNROLL for (uint c = 0; c < CHUNKS; c++) {
        const uint run = min((c * s.parts + s.part) * 32 + lane, s.runs - 1), blocks = s.runs / BLOCK_RUNS;
        U32x4 from = U32x4(s.indices + quad * (s.runs * BITS * 16) + run * 16);
        UNROLL for (uint j = 0; j < BITS; j++) w[c][j] = from.v[j * s.runs];
        scales[c] = U32x2(s.scales + (quad * blocks + run / BLOCK_RUNS) * 8).v[0];
    }
}

// Eight columns to shared memory, with the power of two of the whole run, whose four eights are in neighbouring lanes.
void stage(uint eight, uvec4 halves, float power, float sum) {
    float most = max(power, subgroupShuffleXor(power, 1));
    most = max(most, subgroupShuffleXor(most, 2));
    const float16_t down = float16_t(power / most);
    const uint at = STAGE_AT + eight / 4 * 17 + eight % 4 * 4;
    UNROLL for (uint k = 0; k < 4; k++) POOL_WORD(at + k) = packFloat2x16(unpackFloat2x16(halves[k]) * down);
    if (eight % 4 == 0) POOL_WORD(at + 16) = floatBitsToUint(most);
#if BITS == 1
    sum *= power / most;
    sum += subgroupShuffleXor(sum, 1);
    sum += subgroupShuffleXor(sum, 2);
    if (eight % 4 == 0) POOL_WORD(X_SUMS + eight / 4) = floatBitsToUint(sum);
#endif
}

// x of the lane's runs.
uint x[CHUNKS][16];
float power[CHUNKS], x_sum[CHUNKS];
void take(const Step s, uint first_run) {
    UNROLL for (uint c = 0; c < CHUNKS; c++) {
        const uint run = (c * s.parts + s.part) * 32 + lane - first_run;
        if (run < SLAB_RUNS && run + first_run < s.runs) {
            const uint at = STAGE_AT + run * 17;
            power[c] = uintBitsToFloat(POOL_WORD(at + 16));
#if BITS == 1
            x_sum[c] = uintBitsToFloat(POOL_WORD(X_SUMS + run));
            // Columns p and p + 16 are a pair, times the inverse of what their bit is worth.
            UNROLL for (uint k = 0; k < 8; k++) {
                const uint low = POOL_WORD(at + k), high = POOL_WORD(at + k + 8);
                const uint pairs[2] = uint[2](low & 0xffffu | high << 16, low >> 16 | high & 0xffff0000u);
                UNROLL for (uint e = 0; e < 2; e++)
                    x[c][2 * k + e] = packFloat2x16(unpackFloat2x16(pairs[e]) * float16_t(inverse_of_bit(2 * k + e)));
            }
#else
            UNROLL for (uint p = 0; p < 16; p++) x[c][p] = POOL_WORD(at + p);
#endif
        }
    }
}
void clear_x() {
    UNROLL for (uint c = 0; c < CHUNKS; c++) {
        power[c] = x_sum[c] = 0;
        UNROLL for (uint p = 0; p < 16; p++) x[c][p] = 0;
    }
}

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
void hand_on(uint64_t to, uint column, float v, bool there) {
    float power_of, sum;
    const uint halves = half_pair(v, power_of, sum);
    if (!there) return;
    if (column % 2 == 0) Handed(to).v[column / 2] = halves;
    if (column % 8 == 0) {
        Handed(to).v[WIDEST / 2 + column / 8] = floatBitsToUint(power_of);
        if (BITS == 1) Handed(to).v[WIDEST / 2 + WIDEST / 8 + column / 8] = floatBitsToUint(sum);
    }
}

const int BUFFERS = gl_StorageSemanticsBuffer, ALL = gl_StorageSemanticsBuffer | gl_StorageSemanticsShared;
void together() {
    controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup, ALL,
                   gl_SemanticsAcquireRelease | gl_SemanticsMakeAvailable | gl_SemanticsMakeVisible);
}
// Each round of arrivals adds 256, so that the count may wrap. Returns (invocation 0) what it will be when all have arrived.
uint arrive() {
    memoryBarrier(gl_ScopeQueueFamily, BUFFERS, gl_SemanticsRelease | gl_SemanticsMakeAvailable);
    const uint before = atomicAdd(U32(a.arrivals).v[0], workgroup == 0 ? 257 - gl_NumWorkGroups.x : 1, gl_ScopeQueueFamily, 0,
                                  gl_SemanticsRelaxed);
    return (before | 255) + 1;
}
const uint PATIENCE = 1 << 22;
void wait_for(uint count) {
    uint n = 0;
    while (int(atomicLoad(U32(a.arrivals).v[0], gl_ScopeQueueFamily, 0, gl_SemanticsRelaxed) - count) < 0 && n < PATIENCE) n++;
    if (n == PATIENCE) U32(a.in_vain).v[0] = 1;
    memoryBarrier(gl_ScopeQueueFamily, BUFFERS, gl_SemanticsAcquire | gl_SemanticsMakeVisible);
}

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
    if (s.quads != 0) load_quad(s, 0);
    ENTRY entries[ENTRIES];
    make_entries(centroids_of(0, 0), entries);
    vec2 levels = levels_of(0, 0), next_levels = levels;
    clear_x();
    const uint attended_loads = (ATTENDED / 8 + WIDTH - 1) / WIDTH;
    UNROLL for (uint k = 0; k < attended_loads; k++) {
        if (k != 0 && k % SLABS == 0) barrier();
        const uint eight = k * WIDTH + id;
        if (eight < ATTENDED / 8) {
            const vec4 low = F32x4(a.attended).v[eight * 2], high = F32x4(a.attended).v[eight * 2 + 1];
            const vec4 tops = max(abs(low), abs(high));
            const uint exponent = clamp(floatBitsToUint(max(max(tops.x, tops.y), max(tops.z, tops.w))) & 0x7f800000u, 0x00800000u, 0x7e800000u);
            const float inverse = uintBitsToFloat(0x7f000000u - exponent);
            const uvec4 halves = uvec4(packFloat2x16(f16vec2(low.xy * inverse)), packFloat2x16(f16vec2(low.zw * inverse)),
                                       packFloat2x16(f16vec2(high.xy * inverse)), packFloat2x16(f16vec2(high.zw * inverse)));
            const vec4 both = (low + high) * inverse;
            stage(eight - k / SLABS * SLABS * WIDTH, halves, uintBitsToFloat(exponent), both.x + both.y + (both.z + both.w));
        }
        if (k % SLABS == SLABS - 1 || k + 1 == attended_loads) {
            barrier();
            take(s, k / SLABS * SLAB_RUNS);
        }
    }
    store_table(entries);
    barrier();

    [[dont_unroll]] for (uint step = 0; step < a.steps; step++) {
        const uint splits = s.parts * SPLITS, pitch = splits | 1;
        uint sum_at = SUMS_AT + ((step == UP ? INNER_SHARE : 0) + s.group * 4 + lane % 4) * pitch + s.part * SPLITS + lane / CLUSTER;
        [[dont_unroll]] for (uint n = 0; n < s.quads; n++) {
            float total[4] = float[4](0, 0, 0, 0);
            UNROLL for (uint c = 0; c < CHUNKS; c++)
                UNROLL for (uint r = 0; r < 4; r++) {
                    PAIR sum = PAIR(0);
                    UNROLL for (uint eighth = 0; eighth < 4; eighth++) {
                        PAIR pairs[4];
                        run_pairs(w[c], r, eighth, pairs);
                        UNROLL for (uint j = 0; j < 4; j++) sum = fma(pairs[j], TO_PAIR(x[c][4 * eighth + j]), sum);
                    }
                    float t = float(sum.x) + float(sum.y);
#if BITS == 1
                    t = t * (levels.y - levels.x) + x_sum[c] * levels.x;
#endif
                    total[r] += t * scale_of(scales[c], r) * power[c];
                }
            if (n + 1 < s.quads) load_quad(s, n + 1);
            const float sum = row_sum(total);
            if (lane % CLUSTER < 4) POOL_WORD(sum_at) = floatBitsToUint(sum);
            sum_at += s.groups * 4 * pitch;
        }
        const bool last = step + 1 == a.steps;
        Step next = s;
        if (!last) {
            next = step_of(step + 1);
            if (next.quads != 0) load_quad(next, 0);
            make_entries(centroids_of(step + 1, next.matrix), entries);
            next_levels = levels_of(step + 1, next.matrix);
        }
        barrier();  // sums are there, the table is used no more
        if (step == GATE) {
            store_table(entries);
            s = next;
            levels = next_levels;
            barrier();
            continue;
        }

        // Rows, one for each invocation.
        const bool mine = id < s.rows;
        float v = 0, gate = 0;
        if (mine)
            for (uint i = 0; i < splits; i++) {
                v += uintBitsToFloat(POOL_WORD(SUMS_AT + ((step == UP ? INNER_SHARE : 0) + id) * pitch + i));
                if (step == UP) gate += uintBitsToFloat(POOL_WORD(SUMS_AT + id * pitch + i));
            }
        if (step == UP || step == QKV) {
            float all = 0;
            for (uint i = 0; i < gl_NumSubgroups; i++) all += squares[i];
            const float inv_rms = 1 / sqrt(all / float(HIDDEN) + a.eps);
            v *= inv_rms;
            if (step == UP) v *= silu(gate * inv_rms);
        }
        if (step == QKV) {
            const uint at = (s.matrix == 0 ? 0 : Q_ROWS + (s.matrix - 1) * KV_ROWS) + s.row0 + id;
            if (mine) F32(a.qkv).v[at] = v;
            break;
        }
        const uint64_t to = handed(step);
        if (step != UP) {
            h += v;
            if (mine && step == DOWN) F32(a.hidden).v[s.row0 + id] = h;
            if (last) break;
            const float square = subgroupAdd(mine ? h * h : 0);
            if (mine && subgroupElect()) Handed(to).v[VECTOR_WORDS + workgroup * SQUARES_OF + gl_SubgroupID] = floatBitsToUint(square);
            v = h * norm_weight(step == 0 ? a.mlp_norm : a.next_norm, hidden_row);
        }
        if (gl_SubgroupID * gl_SubgroupSize < s.rows) hand_on(to, s.row0 + id, v, mine);
        together();
        uint all_there = 0;
        if (id == 0) all_there = arrive();
        store_table(entries);
        const bool normed = step != UP;
        s = next;
        levels = next_levels;
        if (id == 0) wait_for(all_there);
        together();

        uvec4 halves[LOADS];
        float powers[LOADS], sums[LOADS];
        UNROLL for (uint k = 0; k < LOADS; k++) {
            const uint eight = k * WIDTH + id;
            if (eight < s.runs * 4) {
                halves[k] = Handed4(to).v[eight];
                powers[k] = uintBitsToFloat(Handed(to).v[WIDEST / 2 + eight]);
                if (BITS == 1) sums[k] = uintBitsToFloat(Handed(to).v[WIDEST / 2 + WIDEST / 8 + eight]);
            }
        }
        if (normed) {
            // A workgroup with fewer rows has fewer sums of squares.
            const uint of = (HIDDEN_SHARE + gl_SubgroupSize - 1) / gl_SubgroupSize, from = id / of, i = id % of;
            float square = 0;
            if (from * HIDDEN_SHARE + i * gl_SubgroupSize < HIDDEN && i * gl_SubgroupSize < HIDDEN_SHARE)
                square = uintBitsToFloat(Handed(to).v[VECTOR_WORDS + from * SQUARES_OF + i]);
            square = subgroupAdd(square);
            if (subgroupElect()) squares[gl_SubgroupID] = square;
        }
        clear_x();
        UNROLL for (uint k = 0; k < LOADS; k++) {
            if (k != 0 && k % SLABS == 0 && k * WIDTH < s.runs * 4) barrier();
            const uint eight = k * WIDTH + id;
            if (eight < s.runs * 4) stage(eight - k / SLABS * SLABS * WIDTH, halves[k], powers[k], sums[k]);
            if ((k % SLABS == SLABS - 1 || k + 1 == LOADS) && k / SLABS * SLAB_RUNS < s.runs) {
                barrier();
                take(s, k / SLABS * SLAB_RUNS);
            }
        }
    }
}

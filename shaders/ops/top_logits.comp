#version 460
//! variant top_logits
// The k-th largest value is found bit by bit from the top, by counting what is no smaller. A subgroup has a row, so that what is
// taken stands in the order of its ids.
#include "common.glsl"
#include "args/distillation.h"
#define SLOTS 1
#include "ops/row_reduce.glsl"
layout(push_constant, scalar) uniform Push { TopLogitsArgs a; };

// An unsigned number with the order of the float.
uint order_key(float x) {
    const uint u = floatBitsToUint(x);
    return (u & 0x80000000u) != 0 ? ~u : u | 0x80000000u;
}

void main() {
    init_lanes();
    uint row = workgroup_index(), start = first_column(), width = gl_WorkGroupSize.x, n = a.vocab;
    if (row >= a.rows) return;
    const uint64_t logits = a.logits + uint64_t(row) * n * 4;

    float highest = -1.0 / 0.0, sum = 0.0;
    uint i = start;
    if (i < n) {
        do {
            highest = max(highest, load_column_f32(logits, i, n));
            i += width;
        } while (i < n);
    }
    highest = subgroupMax(highest);
    i = start;
    if (i < n) {
        do {
            const float e = exp(load_column_f32(logits, i, n) - highest);
            if (in_row(i, n)) sum += e;
            i += width;
        } while (i < n);
    }
    sum = subgroupAdd(sum);
    if (subgroupElect()) {
        const int label = I32(a.labels).v[row];
        const bool counts = label >= 0 && label < int(n);
        F32(a.norm).v[row] = highest + log(sum);
        F32(a.loss).v[row] = counts ? highest + log(sum) - F32(logits).v[max(label, 0)] : 0.0;
        F32(a.confidence).v[row] = counts ? 1.0 / sum : 0.0;
    }

    // The largest bound that at least k keys reach.
    uint bound = 0, bit = 0x80000000u;
    do {
        uint reach = 0;
        i = start;
        if (i < n) {
            do {
                const uint key = order_key(load_column_f32(logits, i, n));
                reach += in_row(i, n) && key >= (bound | bit) ? 1 : 0;
                i += width;
            } while (i < n);
        }
        if (subgroupAdd(reach) >= a.k) bound |= bit;
        bit >>= 1;
    } while (bit != 0);
    uint above = 0;
    i = start;
    if (i < n) {
        do {
            const uint key = order_key(load_column_f32(logits, i, n));
            above += in_row(i, n) && key > bound ? 1 : 0;
            i += width;
        } while (i < n);
    }
    const uint equal = a.k - min(subgroupAdd(above), a.k);  // to be taken of those at the bound
    uint taken = 0, seen = 0;
    const uint64_t to = uint64_t(row) * a.k * 4;
    i = start;
    if (i < n) {
        do {
            const float x = load_column_f32(logits, i, n);
            const uint key = order_key(x), is_equal = in_row(i, n) && key == bound ? 1 : 0;
            const uint before = seen + subgroupExclusiveAdd(is_equal);
            const bool take = in_row(i, n) && (key > bound || (is_equal != 0 && before < equal));
            const uint place = taken + subgroupExclusiveAdd(take ? 1u : 0u);
            if (take && place < a.k) {
                I32(a.ids + to).v[place] = int(own_column(i));
                F32(a.values + to).v[place] = x;
            }
            seen += subgroupAdd(is_equal);
            taken += subgroupAdd(take ? 1u : 0u);
            i += width;
        } while (i < n);
    }
}

// A workgroup has one row (runtime/ops/launch.h: row_kernel): sums and maxima over it, by all invocations, each call with one of
// the includer's SLOTS for itself.
#include "ops/columns.glsl"
layout(constant_id = 2) const uint SUBGROUPS = 1;
shared float row_slots[SLOTS][64];

float row_sum(float x, uint slot) {
    x = subgroupAdd(x);
    if (SUBGROUPS > 1) {
        if (subgroupElect()) row_slots[slot][gl_SubgroupID] = x;
        barrier();
        x = row_slots[slot][0];
        for (uint s = 1; s < SUBGROUPS; s++) x += row_slots[slot][s];
    }
    return x;
}
float row_max(float x, uint slot) {
    x = subgroupMax(x);
    if (SUBGROUPS > 1) {
        if (subgroupElect()) row_slots[slot][gl_SubgroupID] = x;
        barrier();
        for (uint s = 0; s < SUBGROUPS; s++) x = max(x, row_slots[slot][s]);
    }
    return x;
}
// Beyond the row's end loads give another element of it: those do not count.
bool in_row(uint place, uint cols) { return own_column(place) < cols; }

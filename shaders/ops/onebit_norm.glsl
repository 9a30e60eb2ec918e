// Two sums over a row that a workgroup has, one after the other.
#include "ops/columns.glsl"
layout(constant_id = 2) const uint SUBGROUPS = 1;
shared float subgroup_sums[2][64];

float sum_over_row(float x, uint turn) {  // turn 0, then 1
    x = subgroupAdd(x);
    if (SUBGROUPS > 1) {
        if (subgroupElect()) subgroup_sums[turn][gl_SubgroupID] = x;
        barrier();
        x = subgroup_sums[turn][0];
        for (uint s = 1; s < SUBGROUPS; s++) x += subgroup_sums[turn][s];
    }
    return x;
}

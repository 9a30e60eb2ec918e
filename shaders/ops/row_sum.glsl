// A workgroup has one row (runtime/ops/launch.h: row_kernel). To be called once in a shader, by all invocations.
#include "ops/columns.glsl"
layout(constant_id = 2) const uint SUBGROUPS = 1;
shared float subgroup_sums[64];

float sum_over_row(float x) {
    x = subgroupAdd(x);
    if (SUBGROUPS > 1) {
        if (subgroupElect()) subgroup_sums[gl_SubgroupID] = x;
        barrier();
        x = subgroup_sums[0];
        for (uint s = 1; s < SUBGROUPS; s++) x += subgroup_sums[s];
    }
    return x;
}

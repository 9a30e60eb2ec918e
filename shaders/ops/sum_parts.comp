#version 460
//! variant sum_parts
// c = base + the parts of a product that was cut along k, in their order.
#include "common.glsl"
#include "args/matmul.h"
#include "ops/row_blocks.glsl"
layout(push_constant, scalar) uniform Push { SumPartsArgs a; };

void main() {
    uint row, column;
    locate(a.count, row, column);
    if (row > 0) return;
    float sum[MAX_STEPS];
    EACH_STEP(k) sum[k] = load_base(a.base, 0, a.parts, step_column(column, k), a.count);
    uint part = 0;
    do {
        const uint64_t parts = a.parts + uint64_t(part) * a.count * 4;
        EACH_STEP(k) sum[k] += load_column_f32(parts, step_column(column, k), a.count);
        part++;
    } while (part < a.part_count);
    EACH_STEP(k) {
        uint i = own_column(step_column(column, k));
        if (i < a.count) store_f32(a.c, i, sum[k]);
    }
}

#version 460
//! variant rope
#include "common.glsl"
#include "args/rope.h"
#include "ops/row_blocks.glsl"
layout(constant_id = 2) const uint HALF = 32;  // head_dim / 2
layout(push_constant, scalar) uniform Push { RopeArgs a; };

// A unit is a pair of elements of one head, or a copied column.
void main() {
    uint pairs = a.heads * HALF, units = a.cols - pairs, row, unit;
    locate(units, row, unit);
    if (row >= a.rows) return;
    // Where `start` is absent, something else is read and not used: a load under a condition is not safe on every driver.
    uint start = U32(a.start != 0 ? a.start : a.table).v[0];
    uint position = (a.start != 0 ? start : 0) + row % a.seq_len;
    F32 table = F32(a.table + uint64_t(min(position, a.positions - 1)) * (2 * HALF) * 4);
    uint64_t offset = uint64_t(row) * a.cols * 4;
    F32 x = F32(a.x + offset), base = F32(a.base + offset), y = F32(a.y + offset);
    EACH_STEP(k) {
        uint u = step_column(unit, k);
        if (u < pairs) {
            uint head = u / HALF, j = u - head * HALF, first = head * (2 * HALF) + j, second = first + HALF;
            float c = table.v[j], s = table.v[HALF + j] * a.sign, p = x.v[first], q = x.v[second];
            vec2 value = vec2(p * c - q * s, q * c + p * s);
            if (a.base != 0) value += vec2(base.v[first], base.v[second]);
            y.v[first] = value.x;
            y.v[second] = value.y;
        } else if (u < units) {
            uint i = u + pairs;
            float value = x.v[i];
            if (a.base != 0) value += base.v[i];
            y.v[i] = value;
        }
    }
}

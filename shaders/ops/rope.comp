#version 460
//! variant rope_f32 TYPE=f32
//! variant rope_f16 TYPE=f16
//! variant rope_bf16 TYPE=bf16
#include "common.glsl"
#include "args/rope.h"
#include "ops/row_blocks.glsl"
layout(constant_id = 3) const uint HALF = 32;  // head_dim / 2
layout(push_constant, scalar) uniform Push { RopeArgs a; };

// A unit is a pair of elements of one head, or a copied column.
void main() {
    uint pairs = a.heads * HALF, units = a.cols - pairs, row, unit;
    locate(units, row, unit);
    if (row >= a.rows) return;
    // Where `start` is absent, something else is read and not used: a load under a condition is not safe on every driver.
    uint start = U32(a.start != 0 ? a.start : a.table).v[0];
    uint position = (a.start != 0 ? start : 0) + row % a.seq_len;
    uint64_t table = a.table + uint64_t(min(position, a.positions - 1)) * (2 * HALF) * 4;
    uint64_t offset = uint64_t(row) * a.cols * 4, x = a.x + offset;
    uint64_t y = AT(TYPE, a.y, uint64_t(row) * a.cols);
    EACH_STEP(k) {
        uint place = step_column(unit, k), u = min(place, units - (uniform_loads ? 8 : 1));
        if (u < pairs) {
            uint head = u / HALF, j = u - head * HALF, first = head * (2 * HALF) + j, second = first + HALF;
            float c = load_column_f32(table, j, 2 * HALF), s = load_column_f32(table, HALF + j, 2 * HALF) * a.sign;
            float p = load_column_f32(x, first, a.cols), q = load_column_f32(x, second, a.cols);
            vec2 base = vec2(load_base(a.base, offset, x, first, a.cols), load_base(a.base, offset, x, second, a.cols));
            if (place < units) {
                STORE(TYPE, y, own_column(first), base.x + p * c - q * s);
                STORE(TYPE, y, own_column(second), base.y + q * c + p * s);
            }
        } else {
            uint i = u + pairs;
            float value = load_column_f32(x, i, a.cols) + load_base(a.base, offset, x, i, a.cols);
            if (place < units) STORE(TYPE, y, own_column(i), value);
        }
    }
}

#version 460
//! variant block_offsets
// (center - zero) * scale of every block of a packed layer, row by row: an invocation for each.
#include "common.glsl"
#include "args/block_sums.h"
layout(push_constant, scalar) uniform Push { BlockOffsetsArgs a; };

void main() {
    const uint i = invocation_index();
    uint row = i / a.blocks;
    const uint block = i % a.blocks;
    if (row >= a.rows_0 + a.rows_1 + a.rows_2) return;
    uint tile = 0;
    if (row >= a.rows_0) {
        row -= a.rows_0;
        tile = a.tiles_1;
        if (row >= a.rows_1) {
            row -= a.rows_1;
            tile = a.tiles_2;
        }
    }
    const uint64_t at = (uint64_t(tile * 8 + row / 4) * a.blocks + block) * 4 + row % 4;  // [quads, blocks, 4]
    F32(a.offsets + (uint64_t(a.first_row) * a.blocks + i) * 4).v[0] = (a.center - float(U8(a.zeros + at).v[0])) * load_bf16(a.scales, at);
}

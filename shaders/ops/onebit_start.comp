#version 460
//! variant onebit_start
// A weight's magnitudes, or its signs in its place (OneBit's start, METHODS 2). A workgroup has a row.
#include "common.glsl"
#include "args/onebit.h"
#define SLOTS 1
#include "ops/row_reduce.glsl"
layout(push_constant, scalar) uniform Push { OnebitStartArgs a; };

void main() {
    init_lanes();
    uint row = workgroup_index(), start = first_column(), i = start, width = gl_WorkGroupSize.x, n = a.dim;
    if (row >= a.rows) return;
    const bool signs = a.magnitudes == 0;
    const uint64_t offset = uint64_t(row) * n * 4, w = a.w + offset;
    F32 to = F32(signs ? w : a.magnitudes + offset);
    float squares = 0.0;
    if (i < n) {
        do {
            float x = load_column_f32(w, i, n);
            if (in_row(i, n)) {
                squares += x * x;
                to.v[own_column(i)] = signs ? 0.01 * sign(x) : abs(x);
            }
            i += width;
        } while (i < n);
    }
    if (signs) return;
    squares = row_sum(squares, 0);
    if (gl_LocalInvocationIndex == 0) F32(a.squares).v[row] = squares;
}

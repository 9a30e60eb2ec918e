// Elementwise work: a workgroup covers a block of columns of one row (runtime/ops/launch.h: RowBlocks). An invocation has
// one column of each step, the steps a width apart; the last ones may lie beyond the row: loads are clamped so that all of
// them are under way at once, stores are not done.
#include "ops/columns.glsl"
layout(constant_id = 2) const uint STEPS = 4;
const uint MAX_STEPS = 4;
#define EACH_STEP(k) [[unroll]] for (uint k = 0; k < STEPS; k++)

// First statement of main(). `column` is the place of the first step.
void locate(uint cols, out uint row, out uint column) {
    init_lanes();
    uint span = gl_WorkGroupSize.x * STEPS, blocks = (cols + span - 1) / span, number = workgroup_index();
    row = number / blocks;
    column = (number - row * blocks) * span + first_column();
}
uint step_column(uint column, uint k) { return column + k * gl_WorkGroupSize.x; }

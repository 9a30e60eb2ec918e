// Neighbouring columns of a row in neighbouring invocations. A place is the invocation's column, or with uniform_loads (then 8
// divides the columns) the first of its subgroup's, which is uniform: see lanes.glsl.
#include "lanes.glsl"

uint first_column() { return uniform_loads ? gl_SubgroupID * 8 : gl_LocalInvocationIndex; }
uint own_column(uint place) { return uniform_loads ? place + lane : place; }

// The element in the own column, or another of the row where the place lies beyond its `cols` columns.
#define DEFINE_LOAD_COLUMN(type)                                                              \
    float CONCAT(load_column_, type)(uint64_t row, uint place, uint cols) {                   \
        if (uniform_loads) return LANES_LOAD(type, AT(type, row, min(place, cols - 8)));      \
        return LOAD(type, row, min(place, cols - 1));                                         \
    }
DEFINE_LOAD_COLUMN(f32)
DEFINE_LOAD_COLUMN(f16)
DEFINE_LOAD_COLUMN(bf16)
#define LOAD_COLUMN(type, row, place, cols) CONCAT(load_column_, type)(row, place, cols)

// The same of a row that may be absent (`base` is 0, and the result 0); `other`, a row that is there, is read in its stead
// where a load behind a condition would not be safe.
float load_base(uint64_t base, uint64_t offset, uint64_t other, uint place, uint cols) {
    if (uniform_loads) return mix(0.0, load_column_f32(base != 0 ? base + offset : other, place, cols), base != 0);
    if (base != 0) return F32(base + offset).v[min(place, cols - 1)];
    return 0.0;
}

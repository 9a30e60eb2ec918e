#version 460
//! variant advance_position
#include "common.glsl"
#include "args/kv_cache.h"
layout(constant_id = 1) const bool COUNTED = false;
layout(push_constant, scalar) uniform Push { AdvanceArgs a; };

void main() {
    uint by = 1;
    if (COUNTED) by = U32(a.count).v[0];
    if (gl_GlobalInvocationID.x == 0) U32(a.position).v[0] += by;
}

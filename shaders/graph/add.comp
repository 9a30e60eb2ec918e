#version 460
//! variant add
#include "common.glsl"
#include "args/add.h"
layout(push_constant, scalar) uniform Push { AddArgs a; };

void main() {
    uint i = invocation_index();
    if (i < a.count) F32(a.y).v[i] = F32(a.base).v[i] + F32(a.x).v[i];
}

#version 460
//! variant loss_scale
#include "common.glsl"
#include "args/adamw.h"
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer State { AdamwState v; };
layout(push_constant, scalar) uniform Push { LossScaleArgs a; };

void main() {
    if (invocation_index() == 0) F32(a.gradient_scale).v[0] = F32(a.scale).v[0] * State(a.state).v.loss_scale;
}

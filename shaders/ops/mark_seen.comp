#version 460
//! variant mark_seen
#include "ops/sample.glsl"
layout(constant_id = 1) const bool COUNTED = false;
layout(push_constant, scalar) uniform Push { MarkSeenArgs a; };

void main() {
    uint count = a.tokens_count;
    if (COUNTED) count = min(U32(a.count).v[0], a.tokens_count);
    const uint i = gl_GlobalInvocationID.x;
    if (i >= count) return;
    const uint token = uint(I32(a.tokens).v[i]);
    if (token < a.vocab) U32(a.seen).v[token] = 1;
}

#version 460
//! variant kmeans_clear
#include "common.glsl"
#include "args/kmeans.h"
#include "trainer/kmeans.glsl"
layout(push_constant, scalar) uniform Push { KmeansClearArgs a; };

void main() {
    uint i = invocation_index();
    if (i > a.bins) return;
    U32(a.counts).v[i] = 0;
    I64(a.sums).v[i] = 0;
    if (a.weights != 0) I64(a.weights).v[i] = 0;
}

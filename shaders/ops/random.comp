#version 460
//! variant random_u32
//! variant random_f32 ELEMENT=f32
//! variant random_f16 ELEMENT=f16
//! variant random_bf16 ELEMENT=bf16
// Random bits, or numbers spread evenly between two bounds: an invocation makes 16 bytes. The generator is PCG-RXS-M-XS of the
// element's number (O'Neill 2014), applied twice.
#include "common.glsl"
#include "args/random.h"
layout(push_constant, scalar) uniform Push { RandomArgs a; };
#define SIZE_f32 4
#define SIZE_f16 2
#define SIZE_bf16 2

uint pcg(uint x) {
    x = x * 747796405u + 2891336453u;
    x = ((x >> ((x >> 28) + 4)) ^ x) * 277803737u;
    return (x >> 22) ^ x;
}

void main() {
    const uint i = invocation_index();
    if (i >= a.chunks) return;
    uvec4 bits;
    [[unroll]] for (uint j = 0; j < 4; j++) bits[j] = pcg(pcg(i * 4 + j + a.seed) ^ a.seed);
#ifdef ELEMENT
    const uint64_t to = a.y + uint64_t(i) * 16;
    // 4 or 8 numbers
    const uint count = 16 / CONCAT(SIZE_, ELEMENT);
    [[unroll]] for (uint j = 0; j < count; j++) {
        const uint part = count == 4 ? bits[j] >> 8 : (bits[j / 2] >> (j % 2 * 16) & 0xffffu) << 8;
        STORE(ELEMENT, to, j, mix(a.low, a.high, float(part) * (1.0 / 16777216.0)));
    }
#else
    U32x4(a.y).v[i] = bits;
#endif
}

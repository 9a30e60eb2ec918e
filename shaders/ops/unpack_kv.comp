#version 460
//! variant unpack_kv_f32 TYPE=f32
//! variant unpack_kv_f16 TYPE=f16
// The cached positions of an 8-bit cache as floats, for attention of many queries, which reads each many times. A workgroup for
// the k or the v of a position.
#include "common.glsl"
#include "args/kv_cache_i8.h"
layout(constant_id = 1) const bool COUNTED = false;
layout(push_constant, scalar) uniform Push { UnpackKvArgs a; };

void main() {
    const uint index = workgroup_index(), position = index / 2;
    uint count = a.tokens;
    if (COUNTED) count = min(U32(a.count).v[0], a.tokens);
    if (position >= a.max_positions || position >= U32(a.start).v[0] + count) return;
    const bool is_value = index % 2 != 0;
    const uint cols = a.kv_heads * a.head_dim;
    const uint64_t from = (is_value ? a.cache_v : a.cache_k) + uint64_t(position) * cols;
    const uint64_t scales = (is_value ? a.scales_v : a.scales_k) + uint64_t(position) * 4;
    const uint64_t to = is_value ? a.v : a.k, first = uint64_t(position) * cols;
    for (uint c = gl_LocalInvocationID.x; c < cols; c += gl_WorkGroupSize.x) {
        const float scale = F32(scales).v[c / a.head_dim * a.max_positions];
        STORE(TYPE, to, first + c, float(int(uint(U8(from).v[c]) << 24) >> 24) * scale);
    }
}

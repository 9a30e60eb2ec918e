#version 460
//! variant store_kv_i8
// Each head's k or v of a position as integers of -127 .. 127 and a scale: a subgroup for each. Grid: (2 * kv_heads, tokens).
#include "common.glsl"
#include "args/kv_cache_i8.h"
layout(constant_id = 1) const bool COUNTED = false;
layout(push_constant, scalar) uniform Push { StoreKvI8Args a; };

void main() {
    const uint lane = gl_SubgroupInvocationID, width = gl_WorkGroupSize.x;
    const uint start = U32(a.start).v[0], row = gl_WorkGroupID.y;
    uint count = a.tokens;
    if (COUNTED) count = min(U32(a.count).v[0], a.tokens);
    if (row >= count || start >= a.max_positions || row >= a.max_positions - start) return;
    const uint head = gl_WorkGroupID.x % a.kv_heads, position = start + row;
    const bool is_value = gl_WorkGroupID.x >= a.kv_heads;
    // v stands behind k, which stands behind q.
    const uint column = (a.heads + gl_WorkGroupID.x) * a.head_dim;
    const uint64_t from = a.qkv + (uint64_t(row) * (a.heads + 2 * a.kv_heads) * a.head_dim + column) * 4;
    const uint64_t to = (is_value ? a.cache_v : a.cache_k) + (uint64_t(position) * a.kv_heads + head) * a.head_dim;
    const uint64_t scales = is_value ? a.scales_v : a.scales_k;
    float largest = 0;
    for (uint d = lane; d < a.head_dim; d += width) largest = max(largest, abs(F32(from).v[d]));
    largest = subgroupMax(largest);
    const float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
    for (uint d = lane; d < a.head_dim; d += width) {
        const int x = int(clamp(roundEven(F32(from).v[d] * inverse), -127, 127));
        U8(to).v[d] = uint8_t(x & 0xff);
    }
    if (lane == 0) F32(scales).v[head * a.max_positions + position] = scale;
}

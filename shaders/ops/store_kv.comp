#version 460
//! variant store_kv_f32 CACHE=f32
//! variant store_kv_f16 CACHE=f16
//! variant store_kv_bf16 CACHE=bf16
// Copies the k and v columns of qkv to rows start .. of the cache: an invocation per element.
#include "common.glsl"
#include "args/kv_cache.h"
layout(constant_id = 1) const bool COUNTED = false;
layout(push_constant, scalar) uniform Push { StoreKvArgs a; };

void main() {
    const uint start = U32(a.start).v[0];
    uint count = a.tokens;
    if (COUNTED) count = min(U32(a.count).v[0], a.tokens);
    const uint row = gl_WorkGroupID.y;
    const uint column = gl_GlobalInvocationID.x;
    if (row >= count || start >= a.max_positions || row >= a.max_positions - start || column >= a.kv_cols) return;
    const uint64_t from = a.qkv + uint64_t(row) * (a.q_cols + 2 * a.kv_cols) * 4;
    const uint64_t to = uint64_t(start + row) * a.kv_cols + column;
    STORE(CACHE, a.cache_k, to, F32(from).v[a.q_cols + column]);
    STORE(CACHE, a.cache_v, to, F32(from).v[a.q_cols + a.kv_cols + column]);
}

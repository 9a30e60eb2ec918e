// Operands of cooperative matrices: f16, or bf16 with BFLOAT; how eight elements are fetched from memory of any of three types
// and rounded to it. PACK_ONLY: without matrices.
#ifndef PACK_ONLY
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#ifdef BFLOAT
#extension GL_EXT_bfloat16 : require
#define ELEMENT bfloat16_t
#else
#define ELEMENT float16_t
#endif
#endif
#define UNROLL [[unroll]]
const uint TYPE_F32 = 0, TYPE_F16 = 1, TYPE_BF16 = 2;

#ifdef BFLOAT
// To the nearest: drivers may convert to bf16 towards zero, which makes every product smaller, by 0.5 % where both operands are.
uint pack2(vec2 x) { return uint(float_to_bf16(x.x)) | uint(float_to_bf16(x.y)) << 16; }
const uint TYPE_PRODUCT = TYPE_BF16;
#else
uint pack2(vec2 x) { return packFloat2x16(f16vec2(x)); }
const uint TYPE_PRODUCT = TYPE_F16;
#endif
uvec4 pack8(vec4 low, vec4 high) { return uvec4(pack2(low.xy), pack2(low.zw), pack2(high.xy), pack2(high.zw)); }

// 8 elements of a line of an operand.
struct Chunk {
    uvec4 low, high;  // high: of f32 only
};
// Zeros unless `inside`; then the matrix's start is read.
Chunk fetch_chunk(uint64_t at, uint64_t start, bool inside, uint type) {
    U32x4 q = U32x4(inside ? at : start);
    Chunk c = Chunk(mix(uvec4(0), q.v[0], bvec4(inside)), uvec4(0));
    if (type == TYPE_F32) c.high = mix(uvec4(0), q.v[1], bvec4(inside));
    return c;
}
vec4 unpack_f16(uvec2 x) { return vec4(unpackHalf2x16(x.x), unpackHalf2x16(x.y)); }
vec4 unpack_bf16(uvec2 x) { return uintBitsToFloat(uvec4(x.x << 16, x.x & 0xffff0000u, x.y << 16, x.y & 0xffff0000u)); }
uvec4 pack_chunk(Chunk c, uint type) {
    if (type == TYPE_PRODUCT) return c.low;
    if (type == TYPE_F32) return pack8(uintBitsToFloat(c.low), uintBitsToFloat(c.high));
    if (type == TYPE_F16) return pack8(unpack_f16(c.low.xy), unpack_f16(c.low.zw));
    return pack8(unpack_bf16(c.low.xy), unpack_bf16(c.low.zw));
}
uint bytes_of(uint type) { return type == TYPE_F32 ? 4 : 2; }

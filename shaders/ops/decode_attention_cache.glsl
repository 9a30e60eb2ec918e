// Rows of the key-value cache in pieces of 16 bytes: QUADS vectors of four elements.
// Includes nothing: after common.glsl.

#if defined(CACHE_f32)
#define QUADS 1
vec4 quad(uvec4 piece, uint h) { return uintBitsToFloat(piece); }
uvec4 pack(vec4 x[QUADS]) { return floatBitsToUint(x[0]); }
#elif defined(CACHE_f16)
#define QUADS 2
vec4 quad(uvec4 piece, uint h) {
    const uvec2 x = h == 0 ? piece.xy : piece.zw;
    return vec4(unpackHalf2x16(x.x), unpackHalf2x16(x.y));
}
uvec4 pack(vec4 x[QUADS]) {  // rounds as a conversion does
    return uvec4(packFloat2x16(f16vec2(x[0].xy)), packFloat2x16(f16vec2(x[0].zw)), packFloat2x16(f16vec2(x[1].xy)),
                 packFloat2x16(f16vec2(x[1].zw)));
}
#elif defined(CACHE_bf16)
#define QUADS 2
vec4 quad(uvec4 piece, uint h) {
    const uvec2 x = h == 0 ? piece.xy : piece.zw;
    return uintBitsToFloat(uvec4(x.x << 16, x.x & 0xffff0000u, x.y << 16, x.y & 0xffff0000u));
}
uint pack_bf16(vec2 x) { return uint(float_to_bf16(x.x)) | uint(float_to_bf16(x.y)) << 16; }
uvec4 pack(vec4 x[QUADS]) { return uvec4(pack_bf16(x[0].xy), pack_bf16(x[0].zw), pack_bf16(x[1].xy), pack_bf16(x[1].zw)); }
#elif defined(CACHE_i8)  // -127 .. 127, times the scale of the head's vector at that position
#define QUADS 4
vec4 quad(uvec4 piece, uint h) {
    // A byte as the lowest bits of 2^23: two instructions instead of an extraction and a slow conversion.
    const uint x = piece[h] ^ 0x80808080u;
    const uvec4 bits = uvec4(x & 0xffu, (x >> 8) & 0xffu, (x >> 16) & 0xffu, x >> 24) | 0x4b000000u;
    return uintBitsToFloat(bits) - 8388736.0;
}
uvec4 pack(vec4 x[QUADS]) {  // integers
    uvec4 piece;
    [[unroll]] for (uint h = 0; h < 4; ++h) {
        const uvec4 b = uvec4(ivec4(x[h])) & 0xffu;
        piece[h] = b.x | b.y << 8 | b.z << 16 | b.w << 24;
    }
    return piece;
}
#endif
#define PIECE (4 * QUADS)  // elements

// Piece i of the row at this address; elements beyond `size` are anything that the row has.
uvec4 load_piece(uint64_t row, uint i, uint size, bool vector) {
    if (vector) return U32x4(row).v[i];
    uvec4 x = uvec4(0);
    [[unroll]] for (uint e = 0; e < PIECE; ++e) {
        const uint d = min(i * PIECE + e, size - 1);
#if defined(CACHE_f32)
        x[e] = U32(row).v[d];
#elif defined(CACHE_i8)
        x[e / 4] |= uint(U8(row).v[d]) << (8 * (e % 4));
#else
        x[e / 2] |= uint(U16(row).v[d]) << (16 * (e % 2));
#endif
    }
    return x;
}

void store_piece(uint64_t row, uint i, uvec4 x, uint size, bool vector) {
    if (vector) {
        U32x4(row).v[i] = x;
        return;
    }
    [[unroll]] for (uint e = 0; e < PIECE; ++e) {
        const uint d = i * PIECE + e;
        if (d >= size) continue;
#if defined(CACHE_f32)
        U32(row).v[d] = x[e];
#elif defined(CACHE_i8)
        U8(row).v[d] = uint8_t(x[e / 4] >> (8 * (e % 4)) & 0xffu);
#else
        U16(row).v[d] = uint16_t(x[e / 2] >> (16 * (e % 2)) & 0xffffu);
#endif
    }
}

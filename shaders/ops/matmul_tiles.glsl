// Staging of a product's operands for shaders whose workgroup keeps a tile of each in shared memory.
//
// Memory is read in chunks of 8 elements along an operand's rows ("lines"); each invocation first fetches its chunks of the next
// tile into registers, so that they arrive while the present tile is multiplied. In shared memory a tile has the order in which
// the product reads it fastest: where that is not the order in memory, the tile is turned while it is stored.
// Defines from the variant: A_BY_K, B_BY_K: whether memory is contiguous along k (1) or along m or n (0); B: type of b.
#include "common.glsl"
#include "args/matmul.h"
layout(push_constant, scalar) uniform Push { MatmulArgs p; };

layout(constant_id = 1) const uint BLOCK_M = 64;  // the workgroup's tile of c, and the depth of one step
layout(constant_id = 2) const uint BLOCK_N = 64;
layout(constant_id = 3) const uint BLOCK_K = 16;
// Rows that are whole numbers of chunks, at addresses of whole numbers of 16 bytes (c: rows of whole 16 bytes).
layout(constant_id = 4) const bool ALIGNED_A = false;
layout(constant_id = 5) const bool ALIGNED_B = false;
layout(constant_id = 6) const bool ALIGNED_C = false;
layout(constant_id = 7) const bool WHOLE_K = false;  // k is a multiple of BLOCK_K
#define THREADS gl_WorkGroupSize.x
#define UNROLL [[unroll]]

struct Chunk_f32 { vec4 low, high; };
struct Chunk_f16 { uvec4 bits; };
struct Chunk_bf16 { uvec4 bits; };

vec4 unpack_f16(uvec2 x) { return vec4(unpackHalf2x16(x.x), unpackHalf2x16(x.y)); }
vec4 unpack_bf16(uvec2 x) {
    return uintBitsToFloat(uvec4(x.x << 16, x.x & 0xffff0000u, x.y << 16, x.y & 0xffff0000u));
}
vec4 low_floats(Chunk_f32 c) { return c.low; }
vec4 high_floats(Chunk_f32 c) { return c.high; }
vec4 low_floats(Chunk_f16 c) { return unpack_f16(c.bits.xy); }
vec4 high_floats(Chunk_f16 c) { return unpack_f16(c.bits.zw); }
vec4 low_floats(Chunk_bf16 c) { return unpack_bf16(c.bits.xy); }
vec4 high_floats(Chunk_bf16 c) { return unpack_bf16(c.bits.zw); }

// 8 elements of a line of `length` from `first` on. Beyond the line's end: any values of the line; from the `valid`th on: zeros
// (with `aligned`: all or none). Addresses are clamped, not guarded: nothing outside the matrix is read.
Chunk_f32 fetch_f32(uint64_t line, uint first, uint length, bool aligned, int valid) {
    Chunk_f32 c;
    if (aligned) {
        F32x4 q = F32x4(line + uint64_t(min(first, length - 8)) * 4);
        c.low = mix(q.v[0], vec4(0), bvec4(valid <= 0));
        c.high = mix(q.v[1], vec4(0), bvec4(valid <= 0));
    } else {
        UNROLL for (int e = 0; e < 4; ++e) {
            c.low[e] = mix(F32(line).v[min(first + e, length - 1)], 0.0, e >= valid);
            c.high[e] = mix(F32(line).v[min(first + 4 + e, length - 1)], 0.0, e + 4 >= valid);
        }
    }
    return c;
}
uvec4 fetch_16bit(uint64_t line, uint first, uint length, bool aligned, int valid) {
    uvec4 bits;
    if (aligned) {
        bits = mix(U32x4(line + uint64_t(min(first, length - 8)) * 2).v[0], uvec4(0), bvec4(valid <= 0));
    } else {
        UNROLL for (int e = 0; e < 4; ++e) {
            const uint low = mix(uint(U16(line).v[min(first + 2 * e, length - 1)]), 0u, 2 * e >= valid);
            const uint high = mix(uint(U16(line).v[min(first + 2 * e + 1, length - 1)]), 0u, 2 * e + 1 >= valid);
            bits[e] = low | high << 16;
        }
    }
    return bits;
}
Chunk_f16 fetch_f16(uint64_t line, uint first, uint length, bool aligned, int valid) {
    return Chunk_f16(fetch_16bit(line, first, length, aligned, valid));
}
Chunk_bf16 fetch_bf16(uint64_t line, uint first, uint length, bool aligned, int valid) {
    return Chunk_bf16(fetch_16bit(line, first, length, aligned, valid));
}
#define BYTES_f32 4
#define BYTES_f16 2
#define BYTES_bf16 2

// The line (x) and first element (y) of this invocation's chunk number i in a tile of `lines` x `length`. Neighbours read along a
// line; or, where the tile is turned, `group` neighbouring lines go to one invocation and the next ones to its neighbour, which
// makes the stores into shared memory contiguous.
uvec2 place(uint i, uint lines, uint length, bool turned, uint group) {
    const uint at = gl_LocalInvocationIndex + i / group * THREADS;
    if (turned) return uvec2(at % (lines / group) * group + i % group, at / (lines / group) * 8);
    return uvec2(at / (length / 8), at % (length / 8) * 8);
}
bool in_tile(uvec2 at, uint lines, uint length) { return at.x < lines && at.y < length; }

// The operands as lines: how many there are and how long they are, in memory and in a tile.
#if A_BY_K
#define A_LINES p.m
#define A_LENGTH p.k
const uint A_TILE_LINES = BLOCK_M, A_TILE_LENGTH = BLOCK_K;
#else
#define A_LINES p.k
#define A_LENGTH p.m
const uint A_TILE_LINES = BLOCK_K, A_TILE_LENGTH = BLOCK_M;
#endif
#if B_BY_K
#define B_LINES p.n
#define B_LENGTH p.k
const uint B_TILE_LINES = BLOCK_N, B_TILE_LENGTH = BLOCK_K;
#else
#define B_LINES p.k
#define B_LENGTH p.n
const uint B_TILE_LINES = BLOCK_K, B_TILE_LENGTH = BLOCK_N;
#endif

// The chunk at `at` of the tile that starts at (outer, depth).
#define FETCH_OPERAND(type, address, lines, length, by_k, aligned, outer, depth, at)                                           \
    CONCAT(fetch_, type)((address) + uint64_t(min((by_k ? outer : depth) + (at).x, lines - 1)) * length * CONCAT(BYTES_, type), \
                         (by_k ? depth : outer) + (at).y, length, aligned,                                                     \
                         WHOLE_K ? 8 : by_k ? int(p.k) - int(depth + (at).y) : (depth + (at).x < p.k ? 8 : 0))
#define FETCH_A(at, k) FETCH_OPERAND(f32, p.a, A_LINES, A_LENGTH, bool(A_BY_K), ALIGNED_A, m0, k, at)
#define FETCH_B(at, k) FETCH_OPERAND(B, p.b, B_LINES, B_LENGTH, bool(B_BY_K), ALIGNED_B, n0, k, at)

// 1 and 2 bits in integers (packed_matvec.comp). x becomes an integer of 16 bits, with a factor that a unit of 64 columns (two runs
// side by side) shares; a dot product of bytes takes four columns of one of its two digits at once, and sums are exact.
// 1 bit: an `and` leaves one bit of each byte of a word of weights, 0 or a power of two, whose inverse x is multiplied with.
// 2 bits: a table gives the four weights of a byte as bytes q; a centroid is middle + scale * q. Of the scales at which the largest
// and the smallest are 128 to 255 apart the best: the two between them are off by 1.3e-4 of the range on average (random ones).
// x of a run is 16 words [8 fours of columns, 2 digits], the upper digit first. A four is at 1 bit what shares bit f: columns f,
// 8 + f, 16 + f, 24 + f; at 2 bits columns 4 f .. 4 f + 3.
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#include "byte_dot.glsl"

// The largest of a unit becomes MOST, whose upper digit is 127. Bits count 16 (to 128, for which x is divided by up to 8): their
// sum times largest * WORTH is that of x.
const float MOST = 32512, WORTH = 1.0 / (BITS == 1 ? MOST * 16 : MOST);

// Four bits of a word, one in each byte: bits 4 to 7, for the lower ones of the word four places up.
uint four_bits(uint word, uint f) { return (f < 4 ? word << 4 : word) & (0x10101010u << (f % 4)); }

// The words of x [2 digits] of the four f from its columns, times `by` = MOST / largest.
uvec2 digits_of(const uint f, const vec4 x, const float by) {
    const float of_bit[4] = float[4](1, 0.5, 0.25, -0.125);  // the last is the sign
    // Added to 3 * 2^22, x is the integer in its low bits.
    const uvec4 lower = floatBitsToUint(fma(x, vec4(BITS == 1 ? by * of_bit[f % 4] : by), vec4(12582912))), upper = lower + 128;
    return uvec2(pack32(u8vec4(upper >> 8)), pack32(u8vec4(lower)));
}

// Four centroids as middle + scale * q where the largest and the smallest are `apart`. Returns by how much they differ from that.
float fit_bytes(const vec4 centroids, const uint apart, out vec4 q, out float middle, out float scale) {
    const float least = min(min(centroids.x, centroids.y), min(centroids.z, centroids.w));
    const float range = max(max(centroids.x, centroids.y), max(centroids.z, centroids.w)) - least;
    scale = range / float(apart);
    const vec4 exact = (centroids - least) * (range > 1e-30 ? float(apart) / range : 0);
    q = round(exact);
    const vec4 error = exact - q;
    const float most = max(max(error.x, error.y), max(error.z, error.w));
    const float fewest = min(min(error.x, error.y), min(error.z, error.w));
    middle = least + (most + fewest) / 2 * scale;
    return (most - fewest) / 2 * scale;
}
// The same as bytes of a word, at the best scale; levels: middle, scale.
uint bytes_of(const vec4 centroids, out vec2 levels) {
    vec4 q;
    uint best = ~0u;
    for (uint first = 0; first < 128; first += gl_SubgroupSize) {
        const uint i = first + gl_SubgroupInvocationID;
        best = min(best, floatBitsToUint(fit_bytes(centroids, 128 + i, q, levels.x, levels.y)) & ~127u | i);
    }
    fit_bytes(centroids, 128 + (subgroupMin(best) & 127), q, levels.x, levels.y);
    levels.x += 128 * levels.y;
    return pack32(u8vec4(ivec4(q) - 128));
}
// Two weights as bytes from their bits.
uint two_bytes(const uint bytes, const uint bits) {
    return bytes >> (bits % 4 * 8) & 0xffu | (bytes >> (bits / 4 * 8) & 0xffu) << 8;
}

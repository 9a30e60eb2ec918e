// 1 bit in integers (packed_matvec.comp): exact but for x, which becomes an integer of 16 bits, with a factor that a unit of 64
// columns (two runs side by side) shares. An `and` leaves one bit of each byte of a word of weights, 0 or a power of two, x is
// multiplied with its inverse, and a dot product of bytes takes four columns of one of x's two digits at once.
// x of a run is 16 words [8 bits, 2 digits], the upper digit first: byte b of bit f's is column 8 b + f.
#include "byte_dot.glsl"

// The largest of a unit becomes MOST, whose upper digit is 127. Bits count 16 (to 128, for which x is divided by up to 8): their
// sum times largest * WORTH is that of x.
const float MOST = 32512, WORTH = 1.0 / (MOST * 16);

// Four bits of a word, one in each byte: bits 4 to 7, for the lower ones of the word four places up.
uint four_bits(uint word, uint f) { return (f < 4 ? word << 4 : word) & (0x10101010u << (f % 4)); }

// Columns 4 i .. 4 i + 3 of a run, times MOST / largest, as the words [2 digits] of one bit, which is returned. The lanes of a
// run's other columns are neighbours.
uint digits_of(const uint i, vec4 x, out uint words[2]) {
    x *= vec4(1, 0.5, 0.25, -0.125);  // bit 7 is the sign
    const ivec4 lower = ivec4(round(x)), upper = (lower + 128) >> 8;
    words[0] = uint(upper.x & 255) | uint(upper.y & 255) << 8 | uint(upper.z & 255) << 16 | uint(upper.w) << 24;
    words[1] = uint(lower.x & 255) | uint(lower.y & 255) << 8 | uint(lower.z & 255) << 16 | uint(lower.w) << 24;
    // A lane has four bits of byte i / 2: lanes i, i ^ 2, i ^ 4, i ^ 6 turn that round.
    const uint byte = i / 2;
    [[unroll]] for (uint d = 0; d < 2; d++) {
        uint other = subgroupShuffleXor(words[d], 4u);
        words[d] = byte < 2 ? words[d] & 0xffffu | other << 16 : other >> 16 | words[d] & 0xffff0000u;
        other = subgroupShuffleXor(words[d], 2u);
        words[d] = byte % 2 == 0 ? words[d] & 0x00ff00ffu | (other & 0x00ff00ffu) << 8
                                 : other >> 8 & 0x00ff00ffu | words[d] & 0xff00ff00u;
    }
    return byte + 4 * (i % 2);
}

// How workgroups of one dispatch hand on what they make (packed_layers.comp): in memory that has all bits set, so that a word that
// has not is there (words are written whole). No counters, and no fences but for making it empty again. Only workgroups that run at
// the same time may wait so.
// Behind common.glsl (with Vulkan's memory model), packed_runs.glsl and the constants BITS (of the weights that columns are
// multiplied with) and PATIENCE.
layout(buffer_reference, scalar, buffer_reference_align = 4) queuefamilycoherent volatile buffer Handed { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) queuefamilycoherent volatile buffer Handed2 { uvec2 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) queuefamilycoherent volatile buffer Handed4 { uvec4 v[]; };

const uint MISSING = 0xffffffffu;
uint largest_of(uvec4 v) { return max(max(v.x, v.y), max(v.z, v.w)); }
bool missing(uvec4 v) { return largest_of(v) == MISSING; }
// The bits of a float, but never those of MISSING, which is a NaN.
uint whole(float v) { return isnan(v) ? 0x7fc00000u : floatBitsToUint(v); }

// How often this invocation still looks for what is not there.
uint patience = PATIENCE;
bool look_again() { return patience != 0 && --patience != 0; }

uint word_handed(uint64_t at, uint i) {
    uint v;
    do v = Handed(at).v[i];
    while (v == MISSING && look_again());
    return v;
}
uvec4 words_handed(uint64_t at, uint i) {
    uvec4 v;
    do v = Handed4(at).v[i];
    while (missing(v) && look_again());
    return v;
}

// A vector is handed on as fp16, eight columns side by side, as [runs / 32, 4 eights, 32 runs]; behind it a power of two for each
// eight, and their sums where weights have 1 bit.
uint x_words(uint columns) { return (columns + 1023) / 1024 * 512; }
#define VECTOR_WORDS(columns) (((columns) + 1023) / 1024 * 512 + (columns) / 4)  // all of it, also for constants

// Column `column` of `columns`, of which eight neighbours are in neighbouring lanes, there or not together. Where weights have 1 bit
// halves are times the inverse of what the bit of their column is worth (packed_runs.glsl).
void hand_on(uint64_t to, uint columns, uint column, float v, bool there) {
    const uint words = x_words(columns);
    float top = abs(v);
    [[unroll]] for (uint m = 1; m < 8; m *= 2) top = max(top, subgroupShuffleXor(top, m));
    const uint power = clamp(floatBitsToUint(top) & 0x7f800000u, 0x00800000u, 0x7e800000u);
    v *= uintBitsToFloat(0x7f000000u - power);
#if BITS == 1
    float sum = v;
    [[unroll]] for (uint m = 1; m < 8; m *= 2) sum += subgroupShuffleXor(sum, m);
    v *= inverse_of_bit(column % 16);
#endif
    const uint halves = packFloat2x16(f16vec2(v, subgroupShuffleXor(v, 1)));  // with an even number: of its own and the next column
    if (there && column % 2 == 0)
        Handed(to).v[((column / 1024 * 4 + column / 8 % 4) * 32 + column / 32 % 32) * 4 + column / 2 % 4] =
            halves == MISSING ? 0x7fff7fffu : halves;
    if (there && column % 8 == 0) {
        Handed(to).v[words + column / 8] = power;
#if BITS == 1
        Handed(to).v[words + columns / 8 + column / 8] = whole(sum);
#endif
    }
}

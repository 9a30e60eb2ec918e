// The table of packed_matvec.comp (packed_table.glsl says how large it is, packed_runs.glsl how it is read), from centroids: first
// into registers, while shared memory has x, then to its place.

float16_t centroid_of(uint64_t centroids, uint i) { return float16_t(F32(centroids).v[i]); }
// The lane's entries of the table, made before there is room for them. Where an index has two halves of 4 bits, what these are made
// of: 16 entries have the lower one in common.
#if BITS == 4 || (BITS == 2 && defined(INTEGERS))
const uint AT_ONCE = gl_WorkGroupSize.x >> COPIES_LOG, FIRSTS = (16 + AT_ONCE - 1) / AT_ONCE, ENTRIES = BITS == 4 ? 8 + FIRSTS : 1;
uint first_index(uint n) { return (gl_LocalInvocationIndex >> COPIES_LOG) + n * AT_ONCE; }
#elif BITS == 1
const uint ENTRIES = 1;
#else
const uint ENTRIES = (TABLE + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
#endif
// In integers what the table is made of, and what 0 and 1 stand for; at 1 bit only these.
void make_entries(uint64_t centroids, out ENTRY entries[ENTRIES], out vec2 levels) {
    levels = vec2(0);
#if BITS == 1
    levels = vec2(F32(centroids).v[0], F32(centroids).v[1] - F32(centroids).v[0]);
#elif defined(INTEGERS)
    entries[0] = bytes_of(vec4(F32(centroids).v[0], F32(centroids).v[1], F32(centroids).v[2], F32(centroids).v[3]), levels);
#elif BITS == 4
    UNROLL for (uint i = 0; i < 4; i++) {
        const vec4 four = F32x4(centroids).v[i];
        entries[2 * i] = packFloat2x16(f16vec2(four.xy));
        entries[2 * i + 1] = packFloat2x16(f16vec2(four.zw));
    }
    UNROLL for (uint n = 0; n < FIRSTS; n++)
        entries[8 + n] = packFloat2x16(f16vec2(centroid_of(centroids, min(first_index(n), 15)), float16_t(0)));
#else
    UNROLL for (uint k = 0; k < ENTRIES; k++) {
        const uint e = min(gl_LocalInvocationIndex + k * gl_WorkGroupSize.x, TABLE - 1) >> COPIES_LOG;
#if BITS == 8
        entries[k] = floatBitsToUint(F32(centroids).v[e]);
#elif BITS == 3
        entries[k] = packFloat2x16(f16vec2(centroid_of(centroids, e & INDEX_MASK), centroid_of(centroids, e >> BITS)));
#else
        UNROLL for (uint j = 0; j < 2; j++)
            entries[k][j] = packFloat2x16(
                f16vec2(centroid_of(centroids, e >> (4 * j) & 3), centroid_of(centroids, e >> (4 * j + 2) & 3)));
#endif
    }
#endif
}
// To shared memory; barriers before (what was there is used no more) and behind it are the caller's.
void store_table(ENTRY entries[ENTRIES]) {
#if BITS == 4 || (BITS == 2 && defined(INTEGERS))
    UNROLL for (uint n = 0; n < FIRSTS; n++)
        if (first_index(n) < 16) {
#ifdef INTEGERS
            const uint low = two_bytes(entries[0], first_index(n));
#else
            const uint low = entries[8 + n] & 0xffffu;
#endif
            UNROLL for (uint k = 0; k < 16; k++) {
#ifdef INTEGERS
                const uint high = two_bytes(entries[0], k) << 16;
#else
                const uint high = k % 2 == 0 ? entries[k / 2] << 16 : entries[k / 2] & 0xffff0000u;
#endif
                pool[(k * 16 + first_index(n)) << COPIES_LOG | gl_LocalInvocationIndex % COPIES] = low | high;
            }
        }
#elif BITS != 1
    UNROLL for (uint k = 0; k < ENTRIES; k++) {
        const uint i = gl_LocalInvocationIndex + k * gl_WorkGroupSize.x;
        if (TABLE % gl_WorkGroupSize.x == 0 || i < TABLE) pool[i] = entries[k];
    }
#endif
}

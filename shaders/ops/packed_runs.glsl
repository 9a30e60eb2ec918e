// How kernels with lanes along the columns read packed weights (packed_matvec.comp, packed_chain.comp): from the words that a lane
// has of a quad of rows to fp16 weights, through a table in shared memory with a copy for each lane that reads at the same time. A
// byte (6 bits at 3 bits) gives all of its weights; one bit needs no table.
// Behind packed_table.glsl and the constants POOL_WORDS (of shared memory, which begins with the table) and CLUSTER (lanes that
// shuffles reach, at most 32).
shared ENTRY pool[(POOL_WORDS * 4 + (1u << ENTRY_LOG) - 1) >> ENTRY_LOG];
#if BITS == 2
#define POOL_WORD(i) pool[(i) / 2][(i) % 2]
#else
#define POOL_WORD(i) pool[i]
#endif
uint lane, copy_at;

// Arrays are handed over without `const`: with it glslang copies all of one for each element that is read, and NVIDIA's compiler
// keeps the copies in memory.

float scale_of(uvec2 four, uint r) { return uintBitsToFloat(r % 2 == 0 ? four[r / 2] << 16 : four[r / 2] & 0xffff0000u); }

float16_t centroid_of(uint64_t centroids, uint i) { return float16_t(F32(centroids).v[i]); }
// The lane's entries of the table, made before there is room for them. At 4 bits the centroids that they are made of: 16
// entries have one in common, each has another of the 16 as its second.
#if BITS == 4
const uint AT_ONCE = gl_WorkGroupSize.x >> COPIES_LOG, FIRSTS = (16 + AT_ONCE - 1) / AT_ONCE, ENTRIES = 8 + FIRSTS;
uint first_index(uint n) { return (gl_LocalInvocationIndex >> COPIES_LOG) + n * AT_ONCE; }
#elif BITS == 1
const uint ENTRIES = 1;
#else
const uint ENTRIES = (TABLE + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
#endif
void make_entries(uint64_t centroids, out ENTRY entries[ENTRIES]) {
#if BITS == 4
    UNROLL for (uint i = 0; i < 4; i++) {
        const vec4 four = F32x4(centroids).v[i];
        entries[2 * i] = packFloat2x16(f16vec2(four.xy));
        entries[2 * i + 1] = packFloat2x16(f16vec2(four.zw));
    }
    UNROLL for (uint n = 0; n < FIRSTS; n++)
        entries[8 + n] = packFloat2x16(f16vec2(centroid_of(centroids, min(first_index(n), 15)), float16_t(0)));
#elif BITS != 1
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
#if BITS == 4
    UNROLL for (uint n = 0; n < FIRSTS; n++)
        if (first_index(n) < 16)
            UNROLL for (uint k = 0; k < 16; k++)
                pool[(k * 16 + first_index(n)) << COPIES_LOG | gl_LocalInvocationIndex % COPIES] =
                    entries[8 + n] & 0xffffu | (k % 2 == 0 ? entries[k / 2] << 16 : entries[k / 2] & 0xffff0000u);
#elif BITS != 1
    UNROLL for (uint k = 0; k < ENTRIES; k++) {
        const uint i = gl_LocalInvocationIndex + k * gl_WorkGroupSize.x;
        if (TABLE % gl_WorkGroupSize.x == 0 || i < TABLE) pool[i] = entries[k];
    }
#endif
}

// The index is made from the offset in bytes, which has the entry and the copy side by side: a shift and a mask for each.
const uint AT = COPIES_LOG + ENTRY_LOG;
ENTRY entry(uint word, uint bit) {
    const uint v = bit >= AT ? word >> (bit - AT) : word << (AT - bit);
    return pool[((v & (((1u << ENTRY_BITS) - 1) << AT)) | copy_at) >> ENTRY_LOG];
}

#if BITS == 8
#define PAIR vec2
#else
#define PAIR f16vec2
#endif
#define TO_PAIR(halves) PAIR(unpackFloat2x16(halves))

// At 1 bit: where the bits of columns p and p + 16 stand when they are masked, 10 to 14: the exponent of a half.
uint bit_of(uint p) { return p == 15 ? 14 : 10 + p % 5; }
float inverse_of_bit(uint p) { return uintBitsToFloat((127 + 15 - (1u << (bit_of(p) - 10))) << 23); }

// Pairs of weights 4 * eighth .. + 3 of row r's run, PAIR pairs[4], from the words `w`, uvec4 [BITS], that the lane has of its quad;
// at 1 bit columns p and p + 16, else 2 p and 2 p + 1. No function: the arrays would be copied (above).
#define WORD_OF(w, i) w[(i) / 4][(i) % 4]
#if BITS == 1
#define RUN_PAIRS(w, r, eighth, pairs)                                                                      \
    UNROLL for (uint j_ = 0; j_ < 4; j_++) {                                                                \
        const uint p_ = 4 * (eighth) + j_, v_ = WORD_OF(w, r);                                              \
        const uint moved_ = p_ == 15 ? v_ >> 1 : p_ >= 10 ? v_ : p_ >= 5 ? v_ << 5 : v_ << 10;              \
        pairs[j_] = TO_PAIR(moved_ & (0x00010001u << bit_of(p_)));                                          \
    }
#elif BITS == 2
#define RUN_PAIRS(w, r, eighth, pairs)                                                                      \
    UNROLL for (uint j_ = 0; j_ < 2; j_++) {                                                                \
        const uvec2 e_ = entry(WORD_OF(w, (r) * 2 + (eighth) / 2), 16 * ((eighth) % 2) + 8 * j_);           \
        pairs[2 * j_] = TO_PAIR(e_.x);                                                                      \
        pairs[2 * j_ + 1] = TO_PAIR(e_.y);                                                                  \
    }
#elif BITS == 3
#define RUN_PAIRS(w, r, eighth, pairs)                                                                      \
    UNROLL for (uint j_ = 0; j_ < 4; j_++) {                                                                \
        const uint p_ = 4 * (eighth) + j_;                                                                  \
        if (p_ < 15)                                                                                        \
            pairs[j_] = TO_PAIR(entry(WORD_OF(w, (r) * 3 + min(p_ / 5, 2)), 6 * (p_ % 5)));                 \
        else                                                                                                \
            pairs[j_] = TO_PAIR(entry(last_pair(WORD_OF(w, (r) * 3), WORD_OF(w, (r) * 3 + 1), WORD_OF(w, (r) * 3 + 2)), 0)); \
    }
#elif BITS == 4
#define RUN_PAIRS(w, r, eighth, pairs) \
    UNROLL for (uint j_ = 0; j_ < 4; j_++) pairs[j_] = TO_PAIR(entry(WORD_OF(w, (r) * 4 + (eighth)), 8 * j_));
#else
#define RUN_PAIRS(w, r, eighth, pairs)                                                                      \
    UNROLL for (uint j_ = 0; j_ < 4; j_++) {                                                                \
        const uint word_ = WORD_OF(w, (r) * 8 + (eighth) * 2 + j_ / 2);                                     \
        pairs[j_] = vec2(uintBitsToFloat(entry(word_, 16 * (j_ % 2))), uintBitsToFloat(entry(word_, 16 * (j_ % 2) + 8))); \
    }
#endif

// The sum over a cluster of lanes of row lane % 4 of four.
float row_sum(float v[4]) {
    const bool odd = lane % 2 != 0, second = lane / 2 % 2 != 0;
    const float low = (odd ? v[1] : v[0]) + subgroupShuffleXor(odd ? v[0] : v[1], 1);
    const float high = (odd ? v[3] : v[2]) + subgroupShuffleXor(odd ? v[2] : v[3], 1);
    float sum = (second ? high : low) + subgroupShuffleXor(second ? low : high, 2);
    UNROLL for (uint m = 4; m < CLUSTER; m *= 2) sum += subgroupShuffleXor(sum, m);
    return sum;
}

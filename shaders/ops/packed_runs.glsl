// How kernels with lanes along the columns read packed weights (packed_matvec.comp, packed_layers.comp): from the words that a lane
// has of a quad of rows to fp16 weights, through a table in shared memory with a copy for each lane that reads at the same time. A
// byte (6 bits at 3 bits) gives all of its weights; one bit needs no table.
// Behind packed_table.glsl and the constants POOL_WORDS (of shared memory, which begins with the table) and CLUSTER (lanes that
// shuffles reach, at most 32).
shared ENTRY pool[(POOL_WORDS * 4 + (1u << ENTRY_LOG) - 1) >> ENTRY_LOG];
#if ENTRY_WORDS == 2
#define POOL_WORD(i) pool[(i) / 2][(i) % 2]
#else
#define POOL_WORD(i) pool[i]
#endif
uint lane, copy_at;

float scale_of(uvec2 four, uint r) { return uintBitsToFloat(r % 2 == 0 ? four[r / 2] << 16 : four[r / 2] & 0xffff0000u); }

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
// at 1 bit columns p and p + 16, else 2 p and 2 p + 1. No function: glslang copies an array for each element that is read of a `const`
// parameter, and NVIDIA's compiler keeps the copies in memory (docs/rejected.md).
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
    {                                                                                                       \
        const uint a_ = WORD_OF(w, (r) * 3), b_ = WORD_OF(w, (r) * 3 + 1), c_ = WORD_OF(w, (r) * 3 + 2);    \
        UNROLL for (uint j_ = 0; j_ < 4; j_++) {                                                            \
            const uint p_ = 4 * (eighth) + j_;                                                              \
            const uint word_ = p_ < 5 ? a_ : p_ < 10 ? b_ : p_ < 15 ? c_ : last_pair(a_, b_, c_);           \
            pairs[j_] = TO_PAIR(entry(word_, p_ == 15 ? 0 : 6 * (p_ % 5)));                                 \
        }                                                                                                   \
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

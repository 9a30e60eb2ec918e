// Reading packed indices (runtime/ops/packed_linear.h). Specialization constant 2 is the number of bits: 1, 2, 3, 4 or 8.
layout(constant_id = 2) const uint bits = 2;
const uint INDEX_MASK = (1u << bits) - 1u;

// Index number i of a row.
uint index_at(uint64_t row_address, uint i) {
    uint first = i * bits, byte = first >> 3, end = (first & 7u) + bits;
    U8 row = U8(row_address);
    uint window = uint(row.v[byte]) << 8;
    if (end > 8) window |= uint(row.v[byte + 1]);  // only 3 bits reach into the next byte
    return (window >> (16 - end)) & INDEX_MASK;
}

uint big_endian(uint word) { return (word >> 24) | ((word >> 8) & 0xff00u) | ((word << 8) & 0xff0000u) | (word << 24); }

// 32 indices are `bits` words; `word` holds them big-endian, i is a constant.
#define INDEX_OF(word, i)                                                                            \
    ((((i) * bits) % 32 + bits <= 32                                                                 \
          ? word[(i) * bits / 32] >> ((32 - bits - ((i) * bits) % 32) & 31)                          \
          : (word[(i) * bits / 32] << ((((i) * bits) % 32 + bits - 32) & 31)) |                      \
                (word[min((i) * bits / 32 + 1, 7)] >> ((64 - bits - ((i) * bits) % 32) & 31))) &     \
     INDEX_MASK)

// The table of centroids: up to 8 in registers, found by selects on the index' bits; more are read from memory.
const bool TABLE_IN_REGISTERS = bits <= 3;
float table[8];
void load_table(uint64_t centroids) {
    if (!TABLE_IN_REGISTERS) return;
    [[unroll]] for (uint i = 0; i < 8; i++)
        if (i <= INDEX_MASK) table[i] = F32(centroids).v[i];
}
float centroid_of(uint64_t centroids, uint index) {
    if (bits == 1) return mix(table[0], table[1], index != 0);
    bool b0 = (index & 1u) != 0, b1 = (index & 2u) != 0;
    if (bits == 2) return mix(mix(table[0], table[1], b0), mix(table[2], table[3], b0), b1);
    if (bits == 3)
        return mix(mix(mix(table[0], table[1], b0), mix(table[2], table[3], b0), b1),
                   mix(mix(table[4], table[5], b0), mix(table[6], table[7], b0), b1), (index & 4u) != 0);
    return F32(centroids).v[index];
}

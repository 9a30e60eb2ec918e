// Reading packed weights in the tiled layout (runtime/ops/packed_linear.h). BITS is a macro or a constant: 1, 2, 3, 4 or 8.
const uint INDEX_MASK = (1u << BITS) - 1u;
const uint TILE_ROWS = 32;

uint runs_of(uint in_cols) { return (in_cols + 31) / 32; }

// Where the words of a row's quad begin (rows count over all tiles), and which of them is word i of the row's run.
uint64_t quad_address(uint64_t indices, uint row, uint runs) { return indices + uint64_t(row / 4) * (runs * BITS * 16); }
uint word_at(uint row, uint run, uint i, uint runs) {
    const uint n = row % 4 * BITS + i;
    return (n / 4 * runs + run) * 4 + n % 4;
}
uint64_t scale_address(uint64_t scales, uint row, uint block, uint blocks) {
    return scales + (uint64_t(row / 4) * blocks + block) * 8 + row % 4 * 2;
}

// Index of column c (0 .. 31) of a run from its words; c is a constant.
#define INDEX_OF_RUN(word, c)                                                                                                \
    ((BITS == 3 ? ((c) / 2 < 15 ? word[min((c) / 2, 14) / 5] >> (6 * ((c) / 2 % 5) + 3 * ((c) % 2))                          \
                                : last_pair(word[0], word[1], word[2]) >> (3 * ((c) % 2)))                                   \
                : word[(c) * BITS / 32] >> ((c) * BITS % 32)) &                                                              \
     INDEX_MASK)

// At 3 bits: the sixteenth pair of 32 columns, two bits at the top of each of three words.
uint last_pair(uint a, uint b, uint c) { return (a >> 30) | ((b >> 30) << 2) | ((c >> 30) << 4); }

// Any single index: for shaders that are not in a hurry.
uint index_at(uint64_t indices, uint row, uint column, uint runs) {
    const uint run = column / 32, k = column % 32;
    U32 words = U32(quad_address(indices, row, runs));
    if (BITS == 3) {
        const uint pair = k / 2;
        uint word[3];
        [[unroll]] for (uint i = 0; i < 3; i++) word[i] = words.v[word_at(row, run, i, runs)];
        const uint bits = pair < 15 ? word[pair / 5] >> (6 * (pair % 5)) : last_pair(word[0], word[1], word[2]);
        return (bits >> (3 * (k % 2))) & INDEX_MASK;
    }
    return (words.v[word_at(row, run, k * BITS / 32, runs)] >> (k * BITS % 32)) & INDEX_MASK;
}

// Where a tile's rows belong: its part's number, the row of y of the tile's first row, and how many rows the part has from there.
struct TilePlace {
    uint part, row, rows;
};
#define TILE_PLACE(a, tile)                                                                                                \
    ((tile) < a.tiles_1   ? TilePlace(0, (tile) * TILE_ROWS, a.rows_0 - (tile) * TILE_ROWS)                                \
     : (tile) < a.tiles_2 ? TilePlace(1, a.rows_0 + ((tile) - a.tiles_1) * TILE_ROWS, a.rows_1 - ((tile) - a.tiles_1) * TILE_ROWS) \
                          : TilePlace(2, a.rows_0 + a.rows_1 + ((tile) - a.tiles_2) * TILE_ROWS,                          \
                                      a.rows_2 - ((tile) - a.tiles_2) * TILE_ROWS))

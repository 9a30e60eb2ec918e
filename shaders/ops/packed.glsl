// Reading packed weights in the tiled layout (runtime/ops/packed_linear.h). BITS is a macro or a constant: 1, 2, 3, 4 or 8.
const uint INDEX_MASK = (1u << BITS) - 1u;
const uint TILE_ROWS = 32, STEP_COLUMNS = 128;

uint steps_of(uint in_cols) { return (in_cols + STEP_COLUMNS - 1) / STEP_COLUMNS; }

// Address of the first 16 bytes of (tile, step) for row r of the tile; the next ones follow at 512 bytes.
uint64_t chunk_address(uint64_t indices, uint tile, uint step, uint steps, uint r) {
    return indices + (uint64_t(tile) * steps + step) * (BITS * 512) + r * 16;
}

// Index of column c (0 .. 127) of a step from its words; `word` is an array of 4 * BITS words and c a constant.
#define STEP_INDEX(word, c)                                                                                              \
    ((BITS == 3 ? ((c) % 32 / 2 < 15 ? word[(c) / 32 * 3 + min((c) % 32 / 2, 14) / 5] >> (6 * ((c) % 32 / 2 % 5) + 3 * ((c) % 2)) \
                                     : last_pair(word[(c) / 32 * 3], word[(c) / 32 * 3 + 1], word[(c) / 32 * 3 + 2]) >> (3 * ((c) % 2))) \
                : word[(c) / 32 * BITS + (c) % 32 * BITS / 32] >> ((c) % 32 * BITS % 32)) &                                \
     INDEX_MASK)

// At 3 bits: the sixteenth pair of 32 columns, two bits at the top of each of three words.
uint last_pair(uint a, uint b, uint c) { return (a >> 30) | ((b >> 30) << 2) | ((c >> 30) << 4); }

// Any single index: for shaders that are not in a hurry.
uint index_at(uint64_t indices, uint tile, uint steps, uint r, uint column) {
    const uint c = column % STEP_COLUMNS, run = c / 32, k = c % 32;
    U32 words = U32(chunk_address(indices, tile, column / STEP_COLUMNS, steps, r));
    if (BITS == 3) {
        const uint first = run * 3, pair = k / 2;
        uint window[3];
        [[unroll]] for (uint i = 0; i < 3; i++) window[i] = words.v[(first + i) / 4 * 128 + (first + i) % 4];
        uint bits = pair < 15 ? window[pair / 5] >> (6 * (pair % 5)) : last_pair(window[0], window[1], window[2]);
        return (bits >> (3 * (k % 2))) & INDEX_MASK;
    }
    const uint w = run * BITS + k * BITS / 32;
    return (words.v[w / 4 * 128 + w % 4] >> (k * BITS % 32)) & INDEX_MASK;
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

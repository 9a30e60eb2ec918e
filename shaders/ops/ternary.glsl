// Ternary weights as a lane reads them: a chunk of 16 bytes, of 64 columns at 2 bits or 80 at five columns to a byte, and the order in
// which 8-bit integers lie for them. Digits are 0, 1, 2 for -1, 0, 1.
// 2 bits: field k of byte b of a word of 16 columns is column 4 b + k, so that a mask makes four columns ready to be multiplied: the
// integers of 16 columns are a matrix of 4 x 4, transposed.
// Five to a byte: byte b of a word of 20 columns has columns 4 b .. 4 b + 3, the first in the lowest place, and 16 + b in the highest.
// The includer defines FIVE (0 or 1).
#if FIVE
const uint CHUNK_COLUMNS = 80;
#else
const uint CHUNK_COLUMNS = 64;
#endif

uint chunks_of(uint in_cols) { return (in_cols + CHUNK_COLUMNS - 1) / CHUNK_COLUMNS; }

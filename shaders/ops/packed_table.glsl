// The size of the table that packed_runs.glsl looks weights up in. Behind packed.glsl and the constant COPIES_LOG.
#if BITS == 2 && !defined(INTEGERS)
#define ENTRY uvec2
#define ENTRY_WORDS 2
#else
#define ENTRY uint
#define ENTRY_WORDS 1
#endif
const uint ENTRY_BITS = BITS == 3 ? 6 : 8, ENTRY_LOG = ENTRY_WORDS == 2 ? 3 : 2, COPIES = 1u << COPIES_LOG;
// In entries, and where it ends in words.
const uint TABLE = BITS == 1 ? 0 : COPIES << ENTRY_BITS, TABLE_END = TABLE << ENTRY_LOG >> 2;

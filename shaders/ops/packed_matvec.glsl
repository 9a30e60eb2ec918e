// What the packed matvecs share: the table of weights for each byte of indices, and columns of x on their way. The includer has the
// arguments `a`, the constants TOKENS, SLAB, COPIES_LOG, and `copy_at`, `token0`; ENTRY is what a byte (6 bits at 3 bits) stands for, and
// SINGLE(x) a single weight's entry at 8 bits. Without ENTRY there is no table.
#ifdef ENTRY
const uint PER_ENTRY = BITS == 8 ? 1 : BITS == 3 ? 2 : 8 / BITS;  // weights
const uint ENTRY_BITS = BITS == 3 ? 6 : 8;
const uint COPIES = 1u << COPIES_LOG;
shared ENTRY table[COPIES << ENTRY_BITS];

float16_t centroid_of(uint64_t centroids, uint i) { return float16_t(F32(centroids).v[i]); }

// An invocation makes a few of the entries' copies: neighbouring words of one entry (or of several), written in an order that keeps
// lanes out of each other's banks.
void build_table(uint64_t centroids) {
    const uint each = max((COPIES << ENTRY_BITS) / gl_WorkGroupSize.x, 1u);
    const uint first = gl_LocalInvocationIndex * each;
    if (first >= COPIES << ENTRY_BITS) return;
    UNROLL for (uint k = 0; k < max(each / COPIES, 1u); k++) {
        const uint e = (first >> COPIES_LOG) + k;
        ENTRY value;
#if BITS == 8
        value = SINGLE(F32(centroids).v[e]);
#elif BITS >= 3
        value = packFloat2x16(f16vec2(centroid_of(centroids, e & INDEX_MASK), centroid_of(centroids, e >> BITS)));
#else
        UNROLL for (uint j = 0; j < PER_ENTRY / 2; j++)
            value[j] = packFloat2x16(f16vec2(centroid_of(centroids, e >> (2 * j * BITS) & INDEX_MASK),
                                             centroid_of(centroids, e >> ((2 * j + 1) * BITS) & INDEX_MASK)));
#endif
        const uint count = min(each, COPIES), turn = each >= COPIES ? gl_LocalInvocationIndex : gl_LocalInvocationIndex / (COPIES / each);
        UNROLL for (uint j = 0; j < count; j++) table[first + k * COPIES + (j + turn) % count] = value;
    }
}

// The index is made from the offset in bytes, which has the entry and the copy side by side: a shift and a mask for each.
const uint ENTRY_LOG = BITS == 1 ? 4 : BITS == 2 ? 3 : 2, AT = COPIES_LOG + ENTRY_LOG;
ENTRY entry(uint word, uint bit) {
    const uint v = bit >= AT ? word >> (bit - AT) : word << (AT - bit);
    return table[((v & (((1u << ENTRY_BITS) - 1) << AT)) | copy_at) >> ENTRY_LOG];
}
#endif

// Columns from `first` on on their way; TOKENS * QUADS vectors.
const uint QUADS = (SLAB / 4 + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
const uint LOADED = TOKENS * QUADS;
void load_slab(uint first, out vec4 x[LOADED], out vec4 weight[QUADS]) {
    UNROLL for (uint k = 0; k < QUADS; k++) {
        const uint column = first + 4 * (gl_LocalInvocationIndex + k * gl_WorkGroupSize.x);
        UNROLL for (uint t = 0; t < TOKENS; t++)
            x[k * TOKENS + t] = load_columns(a.x + uint64_t(min(token0 + t, a.tokens - 1)) * a.in_cols * 4, column, a.in_cols);
        weight[k] = load_norm(a.norm, column, a.in_cols);
    }
}

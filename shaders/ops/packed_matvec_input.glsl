// How x comes to the lanes of packed_matvec.comp: a slab of columns at a time from memory, four columns of it for each of LOADS vectors
// of an invocation, as fp16 or integers into shared memory (RUN_AT, FACTOR_AT, SUM_AT say where), times the norm's weights.

// Which vectors of four columns of a slab an invocation brings. In integers two by two those of a unit's two runs.
#ifdef INTEGERS
const uint LOADS = (SLAB / 8 + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x * 2;
uint vector_of(uint k) {
    return k / 2 * 2 * gl_WorkGroupSize.x + gl_LocalInvocationIndex / 8 * 16 + k % 2 * 8 + gl_LocalInvocationIndex % 8;
}

// Vectors i and i + 8, of both runs of a unit, to shared memory.
void store_unit(const uint i, vec4 x[2], const vec4 weight[2], inout float square) {
    if (SLAB % (8 * gl_WorkGroupSize.x) != 0 && i >= SLAB / 4) return;
    float top = 0, sum = 0;
    UNROLL for (uint h = 0; h < 2; h++) {
        if (NORM != 0) {
            square += dot(x[h], x[h]);
            x[h] *= weight[h];
        }
        top = max(top, max(max(abs(x[h].x), abs(x[h].y)), max(abs(x[h].z), abs(x[h].w))));
        sum += x[h].x + x[h].y + (x[h].z + x[h].w);
    }
    UNROLL for (uint m = 1; m < 8; m *= 2) {
        top = max(top, subgroupShuffleXor(top, m));
        sum += subgroupShuffleXor(sum, m);
    }
    UNROLL for (uint h = 0; h < 2; h++) {
        const uint run = i / 8 + h;
        const uvec2 digits = digits_of(i % 8, x[h], top > 1e-30 ? MOST / top : 0);
        UNROLL for (uint d = 0; d < 2; d++) POOL_WORD(RUN_AT(run) + 2 * (i % 8) + d) = digits[d];
    }
    if (i % 8 == 0) {
        // What is not finite has no integer: the sum carries it.
        POOL_WORD(FACTOR_AT(i / 8)) = floatBitsToUint(top * WORTH);
        POOL_WORD(SUM_AT(i / 8)) = floatBitsToUint(sum);
    }
}
#else
const uint LOADS = (SLAB / 4 + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
uint vector_of(uint k) { return k * gl_WorkGroupSize.x + gl_LocalInvocationIndex; }

// Columns 4 i .. 4 i + 3 of a slab to shared memory, as fp16 with a power of two for each run, whose eight vectors are in
// neighbouring lanes.
void store_columns(const uint i, vec4 x, const vec4 weight, inout float square) {
    if (SLAB % (4 * gl_WorkGroupSize.x) != 0 && i >= SLAB / 4) return;
    if (NORM != 0) {
        square += dot(x, x);
        x *= weight;
    }
    float top = max(max(abs(x.x), abs(x.y)), max(abs(x.z), abs(x.w)));
    UNROLL for (uint m = 1; m < 8; m *= 2) top = max(top, subgroupShuffleXor(top, m));
    const uint exponent = clamp(floatBitsToUint(top) & 0x7f800000u, 0x00800000u, 0x7e800000u);
    x *= uintBitsToFloat(0x7f000000u - exponent);
    const uint run = i / 8;
    if (i % 8 == 0) POOL_WORD(FACTOR_AT(run)) = exponent;
#if BITS == 1
    float sum = x.x + x.y + (x.z + x.w);
    UNROLL for (uint m = 1; m < 8; m *= 2) sum += subgroupShuffleXor(sum, m);
    if (i % 8 == 0) POOL_WORD(SUM_AT(run)) = floatBitsToUint(sum);
    // Columns c and c + 16 are a pair, times the inverse of what their bit is worth.
    UNROLL for (uint e = 0; e < 4; e++) x[e] *= inverse_of_bit(i % 4 * 4 + e);
    vec4 other;
    UNROLL for (uint e = 0; e < 4; e++) other[e] = subgroupShuffleXor(x[e], 4u);
    const bool upper = i % 8 >= 4;
    const vec2 low = upper ? other.zw : x.xy, high = upper ? x.zw : other.xy;
    const uvec2 halves = uvec2(packFloat2x16(f16vec2(low.x, high.x)), packFloat2x16(f16vec2(low.y, high.y)));
    const uint word = i % 4 * 4 + (upper ? 2 : 0);
#else
    const uvec2 halves = uvec2(packFloat2x16(f16vec2(x.xy)), packFloat2x16(f16vec2(x.zw)));
    const uint word = i % 8 * 2;
#endif
    POOL_WORD(RUN_AT(run) + word) = halves.x;
    POOL_WORD(RUN_AT(run) + word + 1) = halves.y;
}
#endif

// What this invocation brings of the SLAB columns of a token's x from `first` on, and the norm's weights of that. Vector i is columns
// 4 i .. 4 i + 3; at 1 bit in integers those of bit i % 8 of a run's bytes.
#if defined(INTEGERS) && BITS == 1
uint column_of(uint i) { return i / 8 * 32 + i % 8; }
#endif
bool full() { return EXACT && LOADS * 4 * gl_WorkGroupSize.x == SLAB; }  // all invocations bring the same
void load_x(const uint token, const uint first, out vec4 x[LOADS]) {
    const uint64_t row = a.x + uint64_t(EXACT ? token : min(token, a.tokens - 1)) * in_cols() * 4;
    UNROLL for (uint k = 0; k < LOADS; k++) {
#if defined(INTEGERS) && BITS == 1
        const uint column = first + column_of(vector_of(k));
        UNROLL for (uint b = 0; b < 4; b++) x[k][b] = full() || column < in_cols() ? F32(row).v[column + 8 * b] : 0;
#else
        x[k] = load_columns(row, first + 4 * vector_of(k), full() ? ~0u : in_cols());
#endif
    }
}
void load_weights(const uint64_t norm, const uint first, out vec4 weight[LOADS]) {
    UNROLL for (uint k = 0; k < LOADS; k++) {
#if defined(INTEGERS) && BITS == 1
        const uint column = first + column_of(vector_of(k));
        UNROLL for (uint b = 0; b < 4; b++) weight[k][b] = NORM == 0 ? 1 : norm_weight(norm, min(column + 8 * b, in_cols() - 1));
#else
        weight[k] = load_norm(norm, first + 4 * vector_of(k), in_cols());
#endif
    }
}

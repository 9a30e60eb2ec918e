// The input of a matrix-vector product: four columns of x at a time, times the weight of an RMS norm where there is one. The norm's
// factor 1 / rms belongs to the whole row, so it is applied to the result.
// The shader defines NORM (a constant: 0 none, 1 f32, 2 f16, 3 bf16) and VECTOR (whether four columns of both are aligned).
vec4 load_columns(uint64_t row, uint column, uint columns) {
    if (VECTOR) return column < columns ? F32x4(row).v[column / 4] : vec4(0);
    vec4 x = vec4(0);
    [[unroll]] for (uint i = 0; i < 4; i++)
        if (column + i < columns) x[i] = F32(row).v[column + i];
    return x;
}

float norm_weight(uint64_t weight, uint i) {
    return NORM == 1 ? load_f32(weight, i) : NORM == 2 ? load_f16(weight, i) : load_bf16(weight, i);
}

vec4 load_norm(uint64_t weight, uint column, uint columns) {
    if (NORM == 0) return vec4(1);
    if (VECTOR) {
        const uint c = min(column, columns - 4);
        if (NORM == 1) return F32x4(weight).v[c / 4];
        const uvec2 pairs = U32x2(weight).v[c / 4];
        if (NORM == 2) return vec4(unpackHalf2x16(pairs.x), unpackHalf2x16(pairs.y));
        return uintBitsToFloat(uvec4(pairs.x << 16, pairs.x & 0xffff0000u, pairs.y << 16, pairs.y & 0xffff0000u));
    }
    vec4 w;
    [[unroll]] for (uint i = 0; i < 4; i++) w[i] = norm_weight(weight, min(column + i, columns - 1));
    return w;
}

float silu(float x) { return x / (1 + exp(-x)); }

// Bins of the k-means histogram. With u = x / mean|x|, they are equally wide in u / (1 + |u|): fine where most values are, and
// still fine relative to the value in a heavy tail.
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer I64 { int64_t v[]; };

uint bin_of(float u, uint bins) {
    float position = (u / (1.0 + abs(u)) * 0.5 + 0.5) * float(bins);
    return position > 0.0 ? uint(min(position, float(bins - 1))) : 0;  // 0 for NaN as well
}

// x = w / s of a row's columns; the block of column c.
uint block_of(uint row, uint c, uint cols, uint block_rows, uint block_cols) {
    return row / block_rows * (cols / block_cols) + c / block_cols;
}

bool is_finite(float x) { return (floatBitsToUint(x) & 0x7f800000u) != 0x7f800000u; }

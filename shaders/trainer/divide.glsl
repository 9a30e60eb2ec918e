// a / b, correctly rounded. Vulkan allows a division 2.5 units in the last place of error, which moves values that lie exactly
// half-way between two levels (they do: a bf16 weight that is half its block's largest one) to the wrong one.
// The residual a - q b is exact by Dekker's product of halves, which needs no fused multiply-add.
float divide(float a, float b) {
    precise float q = a / b;
    precise float p = q * b;
    precise float qc = 4097.0 * q, bc = 4097.0 * b;
    precise float qh = qc - (qc - q), bh = bc - (bc - b);
    precise float ql = q - qh, bl = b - bh;
    precise float error = ((qh * bh - p) + qh * bl + ql * bh) + ql * bl;
    precise float residual = (a - p) - error;
    precise float result = q + residual / b;
    return result;
}

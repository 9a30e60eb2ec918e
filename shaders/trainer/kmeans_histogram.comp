#version 460
//! variant kmeans_histogram
// One subgroup per row. Sums are integers, so that their order does not matter; 64 bits are added as two halves with a carry,
// because not every device has 64-bit atomics.
#include "common.glsl"
#include "args/kmeans.h"
#include "trainer/kmeans.glsl"
layout(push_constant, scalar) uniform Push { KmeansHistogramArgs a; };

void atomic_add(uint64_t base, uint bin, int64_t value) {
    uint low = uint(value), high = uint(value >> 32);
    U32 halves = U32(base + uint64_t(bin) * 8);
    uint before = atomicAdd(halves.v[0], low);
    if (before + low < before) high++;
    if (high != 0) atomicAdd(halves.v[1], high);
}

void main() {
    uint row = workgroup_index(), lane = gl_SubgroupInvocationID;
    if (row >= a.out_rows) return;
    float mean = F32(a.header).v[0], fine = F32(a.header).v[1], factor = F32(a.header).v[2];
    if (fine == 0.0) return;
    float unit = exp2(float(a.fraction_bits));
    F32 weight = F32(a.weight + uint64_t(row) * a.cols * 4), moment = F32(a.second_moment + uint64_t(row) * a.cols * 4);
    for (uint c = lane; c < a.cols; c += gl_WorkGroupSize.x) {
        float x = weight.v[c] / F32(a.scales).v[block_of(row, c, a.cols, a.block_rows, a.block_cols)];
        float u = clamp(x / mean, -262144.0, 262144.0);  // keeps sums within 62 bits
        uint bin = bin_of(u, a.bins);
        atomicAdd(U32(a.counts).v[bin], 1u);
        float f = 1.0;
        if (a.second_moment != 0) {
            float fixed_weight = roundEven(moment.v[c] * factor * 1048576.0);
            atomic_add(a.weights, bin, int64_t(fixed_weight));
            f = fixed_weight / 1048576.0;
        }
        atomic_add(a.sums, bin, int64_t(roundEven(f * u * unit)));
    }
}

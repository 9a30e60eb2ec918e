#version 460
//! variant clip_search
// One subgroup for each block. The error of a block's contribution to the output is d^T G d over all tokens, d the error of its
// weights, G the block of X^T X.
#include "common.glsl"
#include "lanes.glsl"
#include "args/clipping.h"
#include "trainer/asymmetric.glsl"
layout(push_constant, scalar) uniform Push { ClipSearchArgs a; };
layout(constant_id = 6) const uint MOST = 128;  // weights of a block, at most
shared float difference[MOST];

const uint STEPS = 10;  // i, j = 0 .. 9
const float GRID = 20.0;

// The largest weight comes before the smallest, as in the published code's clamp where they cross.
float clipped(float w, vec2 bounds) { return min(max(w, bounds.x), bounds.y); }

float error_of(uint64_t weight, uint64_t gram, vec2 bounds, Block b) {
    subgroupBarrier();
    uint c = 0;
    do {
        float w = load_value(weight, c, a.group), v = clipped(w, bounds), q;
        if (kind == KIND_NF) {
            float scale = nf_scale(b, v);
            q = nf_level(nf_ratio(v, scale), v < 0.0) * scale;
        } else {
            q = (clamp(roundEven(divide(v, b.step_size)) + b.zero, 0.0, LARGEST) - b.zero) * b.step_size;
        }
        if (whole_tiles || c + lane < a.group) difference[c + lane] = q - w;
        c += LANES;
    } while (c < a.group);
    subgroupMemoryBarrierShared();
    subgroupBarrier();
    float total = 0;
    c = 0;
    do {
        uint i = min(c + lane, a.group - 1), j = 0;
        float sum = 0;
        do {
            sum += load_f32(gram, j * a.group + i) * difference[j];
            j++;
        } while (j < a.group);
        if (whole_tiles || c + lane < a.group) total += sum * difference[i];
        c += LANES;
    } while (c < a.group);
    return subgroupAdd(total);
}

void main() {
    init_lanes();
    uint index = workgroup_index(), groups = a.cols / a.group;
    if (index >= a.rows * groups) return;
    uint64_t weight = a.weight + uint64_t(index) * a.group * 4;
    uint64_t gram = a.gram + uint64_t(index % groups) * a.group * a.group * 4;
    vec2 range = extremes(weight, a.group), best = range;
    float least = 1.0 / 0.0, first = 0.0;
    uint candidate = 0;
    do {
        uint i = candidate / STEPS, j = candidate - i * STEPS;
        vec2 bounds = range * (1.0 - vec2(float(j), float(i)) / GRID);
        vec2 inside = vec2(clipped(range.x, bounds), clipped(range.y, bounds));
        float error = error_of(weight, gram, bounds, block_of(inside));
        if (candidate == 0) first = error;
        if (error < least) {
            least = error;
            best = bounds;
        }
        candidate++;
    } while (candidate < STEPS * STEPS);
    if (lane != 0) return;
    F32(a.bounds + uint64_t(index) * 8).v[0] = best.x;
    F32(a.bounds + uint64_t(index) * 8).v[1] = best.y;
    F32(a.error + uint64_t(index) * 8).v[0] = first;
    F32(a.error + uint64_t(index) * 8).v[1] = least;
}

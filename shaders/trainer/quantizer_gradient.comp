#version 460
//! variant quantizer_gradient
// From dL/dq(W) to dL/dW, in place. With z constant and c = clamp(round(w/s) + z), q = (c - z) s:
//   dL/dw = g [not clamped],  dL/ds = sum of g (c - z - [not clamped] w/s),  s = (max - min) / (2^b - 1) unless they are within 1e-5.
// nf: q = level(w / S) S: dL/dw = g, dL/dS = sum of g (level - w/S) for each side, S = |max| or |min|.
// onebit: g (1.001 - tanh(w)^2).
#include "common.glsl"
#include "lanes.glsl"
#include "args/quantize.h"
#include "trainer/asymmetric.glsl"
layout(push_constant, scalar) uniform Push { QuantizerGradientArgs a; };

void onebit(uint64_t weight, uint64_t gradient) {
    uint c = 0;
    do {
        float w = load_value(weight, c, a.group), dq = load_value(gradient, c, a.group);
        float t = tanh(clamp(w, -20.0, 20.0));
        if (whole_tiles || c + lane < a.group) F32(gradient).v[c + lane] = dq * (1.001 - t * t);
        c += LANES;
    } while (c < a.group);
}

void main() {
    init_lanes();
    uint index = workgroup_index();
    if (index >= a.blocks) return;
    uint64_t first = uint64_t(index) * a.group * 4, weight = a.weight + first, gradient = a.gradient + first;
    if (kind == KIND_ONEBIT) {
        onebit(weight, gradient);
        return;
    }
    vec2 range = extremes(weight, a.group);
    Block b = block_of(range);
    vec2 scale_gradient = vec2(0), ties = vec2(0);  // by minimum, maximum
    uint c = 0;
    do {
        bool inside = whole_tiles || c + lane < a.group;
        float w = load_value(weight, c, a.group), dq = inside ? load_value(gradient, c, a.group) : 0.0;
        if (kind == KIND_NF) {
            float u = nf_ratio(w, nf_scale(b, w)), value = dq * (nf_level(u, w < 0.0) - u);
            if (w < 0.0)
                scale_gradient.x += value;
            else
                scale_gradient.y += value;
        } else {
            float u = divide(w, b.step_size), v = round_away(u) + b.zero;
            scale_gradient.y += dq * ((clamp(v, 0.0, LARGEST) - b.zero) - (v >= 0.0 && v <= LARGEST ? u : 0.0));
        }
        if (inside) ties += vec2(w == range.x, w == range.y);
        c += LANES;
    } while (c < a.group);
    scale_gradient = vec2(subgroupAdd(scale_gradient.x), subgroupAdd(scale_gradient.y));
    ties = vec2(subgroupAdd(ties.x), subgroupAdd(ties.y));
    vec2 by_extreme;
    if (kind == KIND_NF) {
        by_extreme = scale_gradient * sign(range);
    } else {
        float value = range.y - range.x >= 1e-5 ? scale_gradient.y / LARGEST : 0.0;
        by_extreme = vec2(-value, value);
    }
    by_extreme /= max(ties, vec2(1.0));
    c = 0;
    do {
        float w = load_value(weight, c, a.group), d = load_value(gradient, c, a.group);
        if (kind != KIND_NF) {
            float v = round_away(divide(w, b.step_size)) + b.zero;
            d = v >= 0.0 && v <= LARGEST ? d : 0.0;
        }
        if (w == range.x) d += by_extreme.x;
        if (w == range.y) d += by_extreme.y;
        if (whole_tiles || c + lane < a.group) F32(gradient).v[c + lane] = d;
        c += LANES;
    } while (c < a.group);
}

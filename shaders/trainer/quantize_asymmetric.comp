#version 460
//! variant quantize_asymmetric_f32 OUTPUT=f32
//! variant quantize_asymmetric_f16 OUTPUT=f16
//! variant quantize_asymmetric_bf16 OUTPUT=bf16
#include "common.glsl"
#include "lanes.glsl"
#include "args/quantize.h"
#include "trainer/asymmetric.glsl"
layout(push_constant, scalar) uniform Push { QuantizeAsymmetricArgs a; };

void main() {
    init_lanes();
    uint index = workgroup_index();
    if (index >= a.blocks) return;
    uint64_t first = uint64_t(index) * a.group, weight = a.weight + first * 4;
    Block b = block_of(extremes(weight, a.group));
    uint c = 0;
    do {
        float w = load_value(weight, c, a.group), q;
        if (kind == KIND_NF) {
            float scale = nf_scale(b, w);
            q = nf_level(nf_ratio(w, scale), w < 0.0) * scale;
        } else {
            q = (clamp(round_away(divide(w, b.step_size)) + b.zero, 0.0, LARGEST) - b.zero) * b.step_size;
        }
        if (whole_tiles || c + lane < a.group) STORE(OUTPUT, a.quantized, first + (c + lane), q);
        c += LANES;
    } while (c < a.group);
}

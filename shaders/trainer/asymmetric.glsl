// A block of weights that is scaled by its smallest and largest one (trainer/quantizer.h: int_asym, nf). One subgroup has one block
// of `group` neighbours; specialization constant 4 is the number of bits, 5 says that subgroups divide a block.
#include "trainer/divide.glsl"
#include "trainer/quantize_scale.glsl"
layout(constant_id = 4) const uint bits = 2;
layout(constant_id = 5) const bool whole_tiles = false;
#define LARGEST float((1u << bits) - 1u)

// The lane's value of the tile that starts at element c of the block; the last one where the tile reaches beyond it.
float load_value(uint64_t block, uint c, uint group) {
    if (whole_tiles) return lanes_f32(block + uint64_t(c) * 4);
    return F32(block).v[min(c + lane, group - 1)];
}

vec2 extremes(uint64_t block, uint group) {  // smallest, largest
    vec2 range = vec2(1.0 / 0.0, -1.0 / 0.0);
    uint c = 0;
    do {
        float w = load_value(block, c, group);
        range = vec2(min(range.x, w), max(range.y, w));
        c += LANES;
    } while (c < group);
    return vec2(subgroupMin(range.x), subgroupMax(range.y));
}

float round_away(float x) { return sign(x) * floor(abs(x) + 0.5); }

// Steps: boundary k lies between level k and level k + 1, and belongs to the one farther from zero, as the published code has it
// for positive values; negative ones take the farther level only beyond it.
float nf_level(float u, bool negative) {
    float m = abs(u), level = 0.0;
    if (bits == 3) {
        if (negative) {
            level = mix(level, 0.2469314038753510, m > 0.1234657019376755);
            level = mix(level, 0.5350227355957031, m > 0.39097706973552704);
            level = mix(level, 1.0, m > 0.7675113677978516);
            return -level;
        }
        level = mix(level, 0.1833375245332718, m >= 0.0916687622666359);
        level = mix(level, 0.3819939494132996, m >= 0.2826657369732857);
        level = mix(level, 0.6229856610298157, m >= 0.5024898052215576);
        return mix(level, 1.0, m >= 0.8114928305149078);
    }
    if (negative) {
        level = mix(level, 0.09105003625154495, m > 0.045525018125772476);
        level = mix(level, 0.18477343022823334, m > 0.13791173323988914);
        level = mix(level, 0.28444138169288635, m > 0.23460740596055984);
        level = mix(level, 0.39491748809814453, m > 0.33967943489551544);
        level = mix(level, 0.5250730514526367, m > 0.4599952697753906);
        level = mix(level, 0.6961928009986877, m > 0.6106329262256622);
        level = mix(level, 1.0, m > 0.8480964004993439);
        return -level;
    }
    level = mix(level, 0.07958029955625534, m >= 0.03979014977812767);
    level = mix(level, 0.16093020141124725, m >= 0.1202552504837513);
    level = mix(level, 0.24611230194568634, m >= 0.2035212516784668);
    level = mix(level, 0.33791524171829224, m >= 0.2920137718319893);
    level = mix(level, 0.44070982933044434, m >= 0.3893125355243683);
    level = mix(level, 0.5626170039176941, m >= 0.5016634166240692);
    level = mix(level, 0.7229568362236023, m >= 0.6427869200706482);
    return mix(level, 1.0, m >= 0.8614784181118011);
}

// What weights of a block are divided by, and the zero point.
struct Block {
    float step_size, zero;     // int_asym
    float positive, negative;  // nf
};
Block block_of(vec2 range) {
    Block b;
    b.step_size = divide(max(range.y - range.x, 1e-5), LARGEST);
    b.zero = clamp(-roundEven(divide(range.x, b.step_size)), 0.0, LARGEST);
    b.positive = abs(range.y);
    b.negative = abs(range.x);
    return b;
}
// The side of `nf` that a weight is on; 0 / 0 (all weights of a side are 0) counts as 0.
float nf_scale(Block b, float w) { return w < 0.0 ? b.negative : b.positive; }
float nf_ratio(float w, float scale) { return scale == 0.0 ? 0.0 : divide(w, scale); }

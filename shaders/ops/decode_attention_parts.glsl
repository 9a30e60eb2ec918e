// How decode_attention cuts the context, and how its parts are joined.
#include "common.glsl"
layout(constant_id = 1) const uint HEAD_DIM = 64;
layout(constant_id = 2) const uint PARTS = 1;      // at most, and workgroups of the grid along the context
layout(constant_id = 3) const uint SHORTEST = 64;  // keys of a part, at least
layout(constant_id = 4) const uint ALIGN = 8;      // parts begin at multiples of this
#define UNROLL [[unroll]]

// Keys of a part: equal shares of what is there now, so that any context is spread as well as its length allows.
uint part_length(uint keys) {
    const uint length = max((keys + PARTS - 1) / PARTS, SHORTEST);
    return (length + ALIGN - 1) / ALIGN * ALIGN;
}
uint part_count(uint keys, uint length) { return max((keys + length - 1) / length, 1u); }

// The partial sums are written by one workgroup and, in the fused variant, read by another of the same dispatch:
// f32 [rows of heads, PARTS, 4 * ROW_VECTORS], then [rows of heads, PARTS, 2]: top, sum of exp2(score - top).
#ifdef FUSED
#define PARTIAL queuefamilycoherent
#else
#define PARTIAL
#endif
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer PartialF32 { PARTIAL float v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer PartialF32x2 { PARTIAL vec2 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer PartialF32x4 { PARTIAL vec4 v[]; };
const uint ROW_VECTORS = (HEAD_DIM + 3) / 4;
const uint PARTIAL_ROW = PARTS * ROW_VECTORS * 16;  // bytes of a head's sums
uint64_t stats_of(uint64_t partial, uint rows, uint64_t row) { return partial + uint64_t(rows) * PARTIAL_ROW + row * (PARTS * 8); }

// Element d of a head from its parts: `sums` and `stats` are this head's. Parts in order, four loads at once.
float joined(uint64_t sums, uint64_t stats, uint count, uint d) {
    float top = -1e30, sum = 0, acc = 0;
    uint i = 0;
    do {
        float tops[4], weights[4], values[4];
        UNROLL for (uint j = 0; j < 4; ++j) {
            const uint part = min(i + j, count - 1);
            const vec2 of_part = PartialF32x2(stats).v[part];
            tops[j] = mix(-2e30, of_part.x, i + j < count);
            weights[j] = of_part.y;
            values[j] = PartialF32(sums).v[part * (4 * ROW_VECTORS) + d];
        }
        const float new_top = max(max(max(tops[0], tops[1]), max(tops[2], tops[3])), top);
        const float keep = exp2(top - new_top);
        sum *= keep;
        acc *= keep;
        UNROLL for (uint j = 0; j < 4; ++j) {
            const float take = exp2(tops[j] - new_top);
            sum += weights[j] * take;
            acc += values[j] * take;
        }
        top = new_top;
        i += 4;
    } while (i < count);
    return acc / sum;
}

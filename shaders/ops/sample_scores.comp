#version 460
//! variant sample_scores
// Repetition penalty and temperature, and the largest score of each workgroup (one subgroup), ties to the lowest id.
// Grid: (groups, rows).
#include "ops/sample.glsl"
layout(constant_id = 1) const bool SEEN = false;
layout(constant_id = 2) const uint PER_LANE = 8;
layout(push_constant, scalar) uniform Push { SampleScoresArgs a; };

void main() {
    const uint lane = gl_SubgroupInvocationID;
    const uint row = gl_WorkGroupID.y;
    const uint64_t first_of_row = uint64_t(row) * a.vocab * 4;
    const uint64_t logits = a.logits + first_of_row, seen = a.seen + first_of_row, scores = a.scores + first_of_row;
    const uint first = gl_WorkGroupID.x * gl_WorkGroupSize.x * PER_LANE + lane;
    // All on its way before it is used: parameters are the host's, and far away.
    const SamplerParameters p = Parameters(a.parameters + row * SAMPLER_BYTES).p;
    float logit[PER_LANE];
    uint is_seen[PER_LANE];
    [[unroll]] for (uint i = 0; i < PER_LANE; ++i) {
        const uint id = min(first + i * gl_WorkGroupSize.x, a.vocab - 1);
        logit[i] = F32(logits).v[id];
        is_seen[i] = SEEN ? U32(seen).v[id] : 0;
    }
    const float temperature = p.temperature, penalty = p.repetition_penalty;
    const bool greedy = p.greedy != 0 || !(temperature > 0);
    uint best_key = 0, best_id = ~0u;
    [[unroll]] for (uint i = 0; i < PER_LANE; ++i) {
        const uint id = first + i * gl_WorkGroupSize.x;
        if (id < a.vocab) {
            float x = logit[i];
            if (is_seen[i] != 0) x = x < 0 ? x * penalty : x / penalty;
            if (!greedy) x /= temperature;
            if (isnan(x)) x = -3e38;
            x = clamp(x, -3e38, 3e38) + 0.0;  // -0 becomes 0: they tie
            F32(scores).v[id] = x;
            const uint key = order_key(x);
            if (key > best_key) {  // ids rise: the first of equals stays
                best_key = key;
                best_id = id;
            }
        }
    }
    const uint top = subgroupMax(best_key);
    const uint id = subgroupMin(best_key == top ? best_id : ~0u);
    if (lane == 0) {
        const uint group = row * gl_NumWorkGroups.x + gl_WorkGroupID.x;
        U32(a.best).v[group * 2] = top;
        U32(a.best).v[group * 2 + 1] = id;
    }
}

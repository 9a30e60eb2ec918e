#version 460
//! variant adamw_prepare
#include "common.glsl"
#include "args/adamw.h"
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Settings { AdamwSettings v; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer State { AdamwState v; };
layout(push_constant, scalar) uniform Push { AdamwPrepareArgs a; };

void main() {
    float sum = 0;
    for (uint i = gl_SubgroupInvocationID; i < a.count; i += gl_WorkGroupSize.x) sum += F32(a.partial).v[i];
    sum = subgroupAdd(sum);
    if (gl_SubgroupInvocationID != 0) return;
    AdamwSettings settings = Settings(a.settings).v;
    AdamwState s = State(a.state).v;
    s.loss = F32(a.loss).v[0];
    const float loss_scale = s.loss_scale > 0 ? s.loss_scale : 1.0;
    s.gradient_norm = sqrt(sum) / loss_scale;
    bool finite = !isinf(sum) && !isnan(sum) && !isinf(s.loss) && !isnan(s.loss);
    s.skip = finite ? 0 : 1;
    s.skipped += s.skip;
    s.consecutive_skipped = finite ? 0 : s.consecutive_skipped + 1;
    if (finite) {
        s.step += 1;
        s.beta1_power *= settings.beta1;
        s.beta2_power *= settings.beta2;
    }
    // As torch.nn.utils.clip_grad_norm_ does it.
    s.clip = (settings.max_norm > 0 ? min(1.0, settings.max_norm / (s.gradient_norm + 1e-6)) : 1.0) / loss_scale;
    // As torch.amp.GradScaler does it: half after an overflow, twice after many steps without (Micikevicius et al., arXiv
    // 1710.03740).
    if (s.loss_scale > 0) {
        const uint growth_interval = 2000;
        s.steps_at_scale = finite ? s.steps_at_scale + 1 : 0;
        if (!finite) s.loss_scale = max(s.loss_scale * 0.5, 1.0);
        if (s.steps_at_scale >= growth_interval) {
            s.loss_scale = min(s.loss_scale * 2, 16777216.0);
            s.steps_at_scale = 0;
        }
    }
    State(a.state).v = s;
}

#version 460
//! variant decode_attention_combine
// Joins the parts that decode_attention left, where it cannot do that itself. Grid: (head_dim / width, heads, sequences).
#include "ops/decode_attention_parts.glsl"
#include "args/decode_attention.h"
layout(push_constant, scalar) uniform Push { CombineDecodeAttentionArgs a; };

void main() {
    const uint d = min(gl_GlobalInvocationID.x, HEAD_DIM - 1), row = gl_WorkGroupID.z;
    const uint position = U32(a.positions).v[row];
    const uint count = position < a.max_positions ? part_count(position, part_length(position)) : 1;
    if (count == 1) return;  // y is there
    const uint64_t index = uint64_t(row) * a.heads + gl_WorkGroupID.y;
    const uint64_t stats = stats_of(a.partial, gl_NumWorkGroups.z * a.heads, index);
    const float y = joined(a.partial + index * PARTIAL_ROW, stats, count, d);
    if (gl_GlobalInvocationID.x < HEAD_DIM) F32(a.y + index * (HEAD_DIM * 4)).v[d] = y;
}

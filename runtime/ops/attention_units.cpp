#include "runtime/ops/attention_units.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "runtime/vulkan/shader_table.h"

namespace vkqat {
namespace {

// In order of preference: the first that fits a device's registers and shared memory. Measured on an H200 (docs/performance.md);
// subgroups of 64 need two matrices along their rows.
struct Candidate {
    AttentionBlock block;
    uint32_t from = 0;  // the head_dim from which on it is faster than the next ones
};
const Candidate forward_blocks[] = {{{32, 8, 1, true}, 96}, {{32, 4, 1, true}}, {{32, 4, 2, true}}, {{32, 2, 2, true}},
                                    {{32, 4, 1, false}},    {{32, 2, 1, true}}, {{16, 4, 1, true}}, {{16, 2, 1, false}},
                                    {{16, 1, 1, false}},    {{8, 4, 1, true}},  {{8, 2, 1, false}}, {{8, 1, 1, false}}};
const Candidate gradient_q_blocks[] = {{{32, 8, 1, true}},  {{32, 4, 1, true}},  {{32, 4, 2, true}},  {{32, 2, 2, true}},
                                       {{32, 4, 1, false}}, {{16, 4, 1, false}}, {{16, 2, 1, false}}, {{16, 1, 1, false}},
                                       {{8, 2, 1, false}},  {{8, 1, 1, false}}};
const Candidate gradient_kv_blocks[] = {{{32, 8, 2, true}},  {{32, 4, 2, true}},  {{32, 8, 1, true}},  {{32, 4, 1, true}},
                                        {{32, 4, 1, false}}, {{16, 4, 1, false}}, {{16, 2, 1, false}}, {{8, 2, 1, false}}};

std::span<const Candidate> blocks(AttentionPass pass) {
    switch (pass) {
        case AttentionPass::forward: return forward_blocks;
        case AttentionPass::gradient_q: return gradient_q_blocks;
        case AttentionPass::gradient_kv: break;
    }
    return gradient_kv_blocks;
}

bool fits(const AttentionBlock& b, const CooperativeMatrixShape& shape, const Capabilities& device, AttentionPass pass,
          uint32_t head_dim, bool wanted) {
    const bool pairs = pass == AttentionPass::gradient_kv;
    if (b.step % 8 || b.step % shape.n || b.step % shape.k || !std::has_single_bit(b.blocks) || (pairs && b.groups % 2))
        return false;
    const uint32_t lanes = device.subgroup_size, rows = b.blocks * shape.m;
    if (!std::has_single_bit(shape.m) || b.groups * lanes > device.max_workgroup_invocations) return false;
    // Lanes that share a row have whole operands' columns each (pairs of subgroups: at least a chunk of 8).
    const uint32_t parts = std::max(1u, (pairs ? 2 * lanes : lanes) / rows);
    if (b.step % parts || b.step / parts % (pairs ? 8 : std::max(8u, shape.k)) || (pairs && b.groups * lanes < b.step))
        return false;
    // Registers of a lane, in units of 4 bytes: sums, own operands, scores. Some 110 more are needed beside them.
    const uint32_t own = pass == AttentionPass::gradient_q ? 2 : 1;
    const uint32_t registers = (rows * head_dim + (b.resident ? own * rows * head_dim / 2 : 0) + rows * b.step) / lanes;
    if (device.kind != DeviceKind::cpu && registers > 150) return false;
    // CPU drivers write every element's arithmetic out and take long to compile large blocks.
    if (device.kind == DeviceKind::cpu && !wanted && b.step * b.blocks > (pairs ? 16 : 8)) return false;
    const uint32_t line = (head_dim / 8 + 1) * 16, region = rows * (b.step / 4 + 1) * 16;
    const uint32_t all_rows = (pairs ? b.groups / 2 : b.groups) * rows, operands = pairs ? 2 : own;
    const uint32_t walk =
        2 * b.step * line + b.groups * region * (pass == AttentionPass::gradient_q ? 2 : 1) + (pairs ? b.step * 8 : 0);
    const uint32_t staged = all_rows * line * (b.resident && !pairs ? 1 : operands);
    return (b.resident ? std::max(walk, staged) : walk + staged) <= device.shared_memory_bytes;
}

}  // namespace

std::optional<AttentionChoice> choose_attention(const Capabilities& device, Precision precision, AttentionPass pass,
                                                uint32_t head_dim, uint32_t group, const std::optional<AttentionBlock>& wanted) {
    const CooperativeMatrixShape* shape = matrix_shape(device, precision);
    if (!shape || head_dim % 16 || head_dim % shape->n || head_dim % shape->k) return {};
    if (!find_shader(fmt::format("attention_units_forward_{}", name(shape->input)))) return {};
    std::span<const Candidate> candidates = blocks(pass);
    const Candidate only{wanted.value_or(AttentionBlock{})};
    if (wanted) candidates = {&only, 1};
    for (const auto& [b, from] : candidates) {
        if (head_dim < from || !fits(b, *shape, device, pass, head_dim, wanted.has_value())) continue;
        const bool pairs = pass == AttentionPass::gradient_kv;
        const uint32_t along = (pairs ? b.groups / 2 : b.groups) * b.blocks;
        const uint32_t heads = pairs ? 1 : std::gcd(along, group);
        return AttentionChoice{b,
                               along * shape->m,
                               heads,
                               {b.groups * device.subgroup_size, head_dim, b.step, b.groups, b.blocks, heads, shape->m, shape->n,
                                shape->k, b.resident, device.kind != DeviceKind::cpu, device.kind == DeviceKind::cpu}};
    }
    return {};
}

}  // namespace vkqat

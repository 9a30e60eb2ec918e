// Attention on matrix units: the kernels of shaders/ops/attention_units*.comp, for attention.cpp and kv_cache.cpp.
#pragma once

#include <optional>

#include "runtime/ops/matmul.h"

namespace vkqat {

enum class AttentionVariant {
    automatic,     // matrix units where choose_attention() finds blocks for the graph's precision, else portable
    portable,      // fp32, rows of lanes
    matrix_units,  // f16 or bf16, the graph's precision: q, k, v, weights and dy rounded to it, sums and softmax in fp32
};
// How a kernel divides its work.
struct AttentionBlock {
    uint32_t step;    // rows of the other side per iteration
    uint32_t groups;  // subgroups; for the gradient of keys and values pairs of them
    uint32_t blocks;  // matrices of a subgroup (or pair) along its rows: 1, 2 or 4
    bool resident;    // the own rows' matrices stay in registers, or are read from shared memory
};

// The kernels, by what they keep in registers and shared memory.
enum class AttentionPass { forward, gradient_q, gradient_kv };

struct AttentionChoice {
    AttentionBlock block;
    uint32_t rows;                    // of a workgroup
    uint32_t heads;                   // of a group in a tile of queries
    std::vector<uint32_t> constants;  // the first ones of shaders/ops/attention_units.glsl, up to IN_STEP
};

// The block for a pass, the device's own or `wanted`; nothing where the device has no matrix units of this precision, head_dim is
// no multiple of 16, or registers and shared memory hold no block: with 48 KB the backward pass ends at head_dim 128.
std::optional<AttentionChoice> choose_attention(const Capabilities& device, Precision precision, AttentionPass pass,
                                                uint32_t head_dim, uint32_t group, const std::optional<AttentionBlock>& wanted);

}  // namespace vkqat

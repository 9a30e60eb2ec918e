// What a token's attention node costs at a given length of the context, in a model with many layers.
#pragma once

#include <optional>
#include <span>

#include "runtime/ops/decode_attention.h"

namespace vkqat {

struct AttentionBench {
    HeadShape shape{32, 8, 128};
    DType cache = DType::bf16;
    int64_t cached = 0;  // positions before the new one
    int64_t sequences = 1;
    bool two_dispatches = false;  // without counters
    std::optional<DecodeAttentionTuning> tuning = {};
};

struct AttentionTime {
    double median, fastest, slowest;  // seconds of a node, with the barrier between layers
    double bytes;                     // of the cache that a node reads
};

// Memory that the cases share: caches of random numbers, tables, inputs.
class AttentionBencher {
public:
    // `largest`: positions of the longest case; `rotate`: bytes of cache over which the layers of a case go, more than a level-2
    // cache holds.
    AttentionBencher(Device& device, uint32_t head_dim, int64_t largest, uint64_t cache_bytes, uint64_t rotate);
    // Compiles what the cases need, on all cores.
    void compile(std::span<const AttentionBench> cases);
    AttentionTime measure(const AttentionBench& of, int rounds = 9);

private:
    void add_nodes(Graph& g, const AttentionBench& of, int64_t max_positions, int count);
    Device& device_;
    uint32_t head_dim_;
    uint64_t rotate_;
    Buffer caches_, scales_, table_, qkv_, positions_, counters_;
    int64_t table_positions_;
};

}  // namespace vkqat

// How much device memory a model takes before anything is loaded, and what would fit.
#pragma once

#include <string>

#include "runtime/model/sequences.h"

namespace vkqat {

struct MemoryNeed {
    uint64_t weights = 0, cache = 0, workspace = 0, rest = 0;  // rest: logits, tables, what the samplers remember
    uint64_t total() const { return weights + cache + workspace + rest; }
};

// Of sequences of `planned` weights (LlamaWeights::Planned): sizes of the tensors; the driver rounds each up a little. The
// workspace is what the graphs that would be recorded are planned to share.
MemoryNeed memory_need(const LlamaWeights& planned, const SequencesOptions& options);

// The largest context with which `free` bytes suffice, 0 if there is none; at most what the model allows.
int64_t largest_context(const LlamaWeights& planned, SequencesOptions options, uint64_t free);

// "weights 6.61 GB, cache 1.61 GB, workspace 0.42 GB, other 0.03 GB; together 8.67 GB"
std::string memory_text(const MemoryNeed& need);

// Error that says what is needed, what is free and what would fit, if the device has not enough memory free. `what` names the
// model; `options.context` must not be 0.
void require_memory(const LlamaWeights& planned, const SequencesOptions& options, const std::string& what);

}  // namespace vkqat

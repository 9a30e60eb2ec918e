// Where tensors live and where barriers stand: pure computation over a graph, without a device.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/graph/graph.h"

namespace vkqat {

// A piece of arena memory that is needed from the node `first` to the node `last` (inclusive).
struct Lifetime {
    uint64_t bytes = 0;
    uint32_t first = 0, last = 0;
};

struct Placement {
    std::vector<uint64_t> offsets;  // one for each lifetime
    uint64_t bytes = 0;             // of the whole arena
};

// Gives each lifetime an offset such that pieces alive at the same time do not overlap and none crosses a multiple of
// `block_bytes` (memory comes in blocks of that size). Largest first, lowest gap that fits.
Placement place(const std::vector<Lifetime>& lifetimes, uint64_t block_bytes, uint64_t alignment = 256);

// One use of memory, as absolute bytes [begin, end).
struct MemoryUse {
    uint64_t begin, end;
    bool writes;
};

// For each node whether a barrier must stand before it: it touches what an earlier node wrote since the last barrier, or
// writes what one read.
std::vector<bool> barriers(const std::vector<std::vector<MemoryUse>>& uses);

struct Plan {
    std::vector<uint64_t> storage_offsets;  // arena offset by storage; unused for external ones
    uint64_t arena_bytes = 0;
};
Plan plan(const Graph& graph, uint64_t block_bytes);

}  // namespace vkqat

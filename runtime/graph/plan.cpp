#include "runtime/graph/plan.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace vkqat {

Placement place(const std::vector<Lifetime>& lifetimes, uint64_t block_bytes, uint64_t alignment) {
    std::vector<uint32_t> order(lifetimes.size());
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });
    Placement result;
    result.offsets.resize(lifetimes.size());
    std::vector<std::pair<uint64_t, uint64_t>> taken;  // [begin, end) of those alive at the same time
    std::vector<uint32_t> placed;
    for (uint32_t i : order) {
        const Lifetime& life = lifetimes[i];
        if (life.bytes > block_bytes)
            fail("a tensor of {} bytes is larger than one allocation of this device ({} bytes)", life.bytes, block_bytes);
        taken.clear();
        for (uint32_t other : placed)
            if (lifetimes[other].first <= life.last && life.first <= lifetimes[other].last)
                taken.push_back({result.offsets[other], result.offsets[other] + lifetimes[other].bytes});
        std::sort(taken.begin(), taken.end());
        auto fit = [&](uint64_t at) {  // the lowest place from `at` on that is aligned and crosses no block
            at = (at + alignment - 1) / alignment * alignment;
            uint64_t block_end = (at / block_bytes + 1) * block_bytes;
            return life.bytes > 0 && at + life.bytes > block_end ? block_end : at;
        };
        uint64_t at = fit(0);
        for (auto [begin, end] : taken) {
            if (at + life.bytes <= begin) break;
            if (end > at) at = fit(end);
        }
        result.offsets[i] = at;
        result.bytes = std::max(result.bytes, at + life.bytes);
        placed.push_back(i);
    }
    return result;
}

namespace {

// A set of disjoint byte ranges.
class Ranges {
public:
    bool overlaps(uint64_t begin, uint64_t end) const {
        auto it = ranges_.lower_bound(begin);
        if (it != ranges_.end() && it->first < end) return true;
        return it != ranges_.begin() && std::prev(it)->second > begin;
    }
    void add(uint64_t begin, uint64_t end) {
        auto it = ranges_.lower_bound(begin);
        if (it != ranges_.begin() && std::prev(it)->second >= begin) --it;
        while (it != ranges_.end() && it->first <= end) {
            begin = std::min(begin, it->first);
            end = std::max(end, it->second);
            it = ranges_.erase(it);
        }
        ranges_[begin] = end;
    }
    void clear() { ranges_.clear(); }

private:
    std::map<uint64_t, uint64_t> ranges_;
};

}  // namespace

std::vector<bool> barriers(const std::vector<std::vector<MemoryUse>>& uses) {
    std::vector<bool> result(uses.size(), false);
    Ranges read, written;
    for (size_t i = 0; i < uses.size(); i++) {
        for (const MemoryUse& use : uses[i])
            if (use.begin < use.end &&
                (written.overlaps(use.begin, use.end) || (use.writes && read.overlaps(use.begin, use.end))))
                result[i] = true;
        if (result[i]) {
            read.clear();
            written.clear();
        }
        for (const MemoryUse& use : uses[i])
            if (use.begin < use.end) (use.writes ? written : read).add(use.begin, use.end);
    }
    return result;
}

Plan plan(const Graph& graph, uint64_t block_bytes) {
    const auto& storages = graph.storages();
    constexpr uint32_t unused = UINT32_MAX;
    std::vector<Lifetime> lifetimes(storages.size());
    std::vector<bool> written(storages.size(), false);
    for (Lifetime& life : lifetimes) life.first = unused;
    for (uint32_t n = 0; n < graph.nodes().size(); n++) {
        const Node& node = graph.nodes()[n];
        auto use = [&](Tensor t, bool reads, bool writes) {
            if (!t) return;
            uint32_t s = graph.info(t).storage;
            Lifetime& life = lifetimes[s];
            if (storages[s].address == 0 && reads && !written[s] && !writes)
                fail("node '{}' reads tensor '{}', which nothing has written", node.label, t.name());
            if (writes) written[s] = true;
            if (life.first == unused) life.first = n;
            life.last = n;
        };
        for (const Access& a : node.accesses) use(a.tensor, a.reads, a.writes);
        use(node.grid.indirect, true, false);
    }
    // Only what the arena must hold is placed; the rest keeps offset 0.
    std::vector<uint32_t> index;
    std::vector<Lifetime> transient;
    for (uint32_t s = 0; s < storages.size(); s++) {
        if (storages[s].address != 0 || lifetimes[s].first == unused) continue;
        lifetimes[s].bytes = storages[s].bytes;
        if (storages[s].keep) lifetimes[s].last = uint32_t(graph.nodes().size());
        index.push_back(s);
        transient.push_back(lifetimes[s]);
    }
    Placement placement = place(transient, block_bytes);
    Plan result;
    result.storage_offsets.assign(storages.size(), 0);
    for (size_t i = 0; i < index.size(); i++) result.storage_offsets[index[i]] = placement.offsets[i];
    result.arena_bytes = placement.bytes;
    return result;
}

}  // namespace vkqat

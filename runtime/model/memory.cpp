#include "runtime/model/memory.h"

#include <algorithm>

namespace vkqat {
namespace {

std::string gigabytes(uint64_t bytes) { return fmt::format("{:.2f} GB", double(bytes) / 1e9); }

}  // namespace

MemoryNeed memory_need(const LlamaWeights& planned, const SequencesOptions& options) {
    if (!planned.planned()) fail("memory_need: the weights are loaded already");
    const Sequences sequences(planned, options);
    MemoryNeed need{planned.device_bytes(), sequences.cache_bytes(), sequences.workspace_bytes(), 0};
    need.rest = sequences.device_bytes() - need.cache - need.workspace;
    return need;
}

int64_t largest_context(const LlamaWeights& planned, SequencesOptions options, uint64_t free) {
    auto fits = [&](int64_t context) {
        options.context = context;
        return memory_need(planned, options).total() <= free;
    };
    int64_t low = 0, high = planned.config().max_position_embeddings;
    if (high < 1 || !fits(1)) return 0;
    if (fits(high)) return high;
    for (low = 1; high - low > std::max<int64_t>(1, low / 100);) {  // to a hundredth
        const int64_t middle = low + (high - low) / 2;
        (fits(middle) ? low : high) = middle;
    }
    return low;
}

std::string memory_text(const MemoryNeed& n) {
    return fmt::format("weights {}, cache {}, workspace {}, other {}; together {}", gigabytes(n.weights), gigabytes(n.cache),
                       gigabytes(n.workspace), gigabytes(n.rest), gigabytes(n.total()));
}

void require_memory(const LlamaWeights& planned, const SequencesOptions& options, const std::string& what) {
    const MemoryNeed need = memory_need(planned, options);
    const uint64_t free = planned.device().free_memory();
    if (need.total() <= free) return;
    std::string advice;
    SequencesOptions other = options;
    if (options.count > 1) {
        other.count = 1;
        if (memory_need(planned, other).total() <= free) {
            int64_t low = 1, high = options.count;
            while (high - low > 1) {
                other.count = low + (high - low) / 2;
                (memory_need(planned, other).total() <= free ? low : high) = other.count;
            }
            advice += fmt::format("; {} at a time would fit", low);
        }
        other = options;
    }
    if (const int64_t context = largest_context(planned, options, free))
        advice += fmt::format("; a context of {} would fit", context);
    if (options.cache != DType::i8) {
        other.cache = DType::i8;
        if (memory_need(planned, other).total() <= free)
            advice += "; an 8-bit cache (--cache i8) would fit";
        else if (const int64_t context = largest_context(planned, other, free))
            advice += fmt::format("; with an 8-bit cache (--cache i8) a context of {} would", context);
    }
    if (advice.empty()) advice = "; fewer bits or a smaller model are needed";
    fail("{} with a context of {}{} does not fit into the memory of {}: {}, but about {} are free{}", what, options.context,
         options.count > 1 ? fmt::format(" for each of {} texts", options.count) : "", planned.device().capabilities().name,
         memory_text(need), gigabytes(free), advice);
}

}  // namespace vkqat

#include "trainer/buckets.h"

#include <algorithm>

namespace vkqat {

std::vector<Stretch> cut_into_buckets(const std::vector<uint64_t>& block_elements, uint64_t bucket_bytes) {
    const uint64_t size = std::max(bucket_bytes / 4 / bucket_grain, uint64_t(1)) * bucket_grain;
    std::vector<Stretch> buckets;
    for (size_t block = 0; block < block_elements.size(); block++)
        for (uint64_t first = 0; first < block_elements[block]; first += size)
            buckets.push_back({block, first, std::min(size, block_elements[block] - first)});
    return buckets;
}

Stretch part_of(const Stretch& bucket, int rank, int size) {
    const uint64_t grains = (bucket.count + bucket_grain - 1) / bucket_grain;
    auto begin = [&](int r) { return std::min(bucket.count, grains * uint64_t(r) / uint64_t(size) * bucket_grain); };
    return {bucket.block, bucket.first + begin(rank), begin(rank + 1) - begin(rank)};
}

}  // namespace vkqat

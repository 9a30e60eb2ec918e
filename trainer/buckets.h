// How flat blocks of numbers are cut for what the ranks of a training do together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vkqat {

// A stretch of a flat block, in elements.
struct Stretch {
    size_t block;
    uint64_t first, count;
};

// Buckets and their parts begin at multiples of this many elements, which are also those of the gradient norm's partial sums.
constexpr uint64_t bucket_grain = 8192;

// The blocks cut into buckets of about this size of fp32, in order.
std::vector<Stretch> cut_into_buckets(const std::vector<uint64_t>& block_elements, uint64_t bucket_bytes);
// The part of a bucket that a rank has to itself: it sums the gradients there, and with ZeRO-1 updates the weights.
Stretch part_of(const Stretch& bucket, int rank, int size);

}  // namespace vkqat

// How many bits each part of a model gets, so that a budget of bytes is met with the least loss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vkqat {

// One way to store a part.
struct BitChoice {
    int bits = 0;
    uint64_t bytes = 0;
    double loss = 0;  // how much worse the model becomes by it alone
};

// The index of the choice for each part: the sum of the losses small, the sum of the bytes at most `budget`. Starts from the
// fewest bytes and takes the steps along each part's lower convex hull that gain most per byte while they fit (the Lagrangian
// relaxation of the knapsack), then single exchanges that still fit. Error if the fewest bytes do not fit, naming both numbers,
// or a part has no choice.
std::vector<size_t> choose_bits(const std::vector<std::vector<BitChoice>>& parts, uint64_t budget);

}  // namespace vkqat

#include "trainer/bit_budget.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

struct Sum {
    uint64_t bytes = 0;
    double loss = 0;
};
Sum sum(const std::vector<std::vector<BitChoice>>& parts, const std::vector<size_t>& chosen) {
    Sum s;
    for (size_t p = 0; p < parts.size(); p++) s.bytes += parts[p][chosen[p]].bytes, s.loss += parts[p][chosen[p]].loss;
    return s;
}

// Parts of 1, 2, 3 and 4 bits whose loss falls by about a factor of 4 a bit, some a hundred times as sensitive as others.
std::vector<std::vector<BitChoice>> random_parts(uint32_t seed, size_t count) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(0, 1);
    std::vector<std::vector<BitChoice>> parts(count);
    for (auto& part : parts) {
        const auto size = uint64_t(10 + random() % 90);
        const double sensitivity = std::pow(10, 2 * uniform(random));
        for (int bits = 1; bits <= 4; bits++)
            part.push_back({bits, size * uint64_t(bits), sensitivity * std::pow(0.25, bits) * (0.7 + 0.6 * uniform(random))});
    }
    return parts;
}

TEST(BitBudget, IsMetAndCloseToTheBestOfAllChoices) {
    for (uint32_t seed = 1; seed <= 20; seed++) {
        const auto parts = random_parts(seed, 6);
        uint64_t most = 0;
        for (auto& part : parts) most += part[3].bytes;
        for (double share : {0.3, 0.5, 0.75}) {
            const auto budget = uint64_t(share * double(most));
            const Sum found = sum(parts, choose_bits(parts, budget));
            EXPECT_LE(found.bytes, budget);
            double best = 1e300;
            for (size_t code = 0; code < 4096; code++) {
                std::vector<size_t> all;
                for (size_t p = 0; p < 6; p++) all.push_back(code >> (2 * p) & 3);
                const Sum s = sum(parts, all);
                if (s.bytes <= budget) best = std::min(best, s.loss);
            }
            // Only six parts: a step that does not fit weighs much.
            EXPECT_LE(found.loss, 1.5 * best) << "seed " << seed << ", share " << share;
        }
    }
}

TEST(BitBudget, BeatsEveryUniformChoice) {
    for (uint32_t seed = 1; seed <= 20; seed++) {
        const auto parts = random_parts(seed, 40);
        for (size_t bits : {1, 2}) {
            const Sum uniform = sum(parts, std::vector<size_t>(40, bits));
            EXPECT_LT(sum(parts, choose_bits(parts, uniform.bytes)).loss, uniform.loss);
        }
    }
}

TEST(BitBudget, TakesTheBestWhereEverythingFitsAndFailsWhereNothingDoes) {
    const std::vector<std::vector<BitChoice>> parts = {{{1, 10, 5}, {2, 20, 1}, {4, 40, 2}}, {{1, 10, 1}, {2, 20, 1}}};
    EXPECT_EQ(choose_bits(parts, 1000), (std::vector<size_t>{1, 0}));
    EXPECT_EQ(choose_bits(parts, 20), (std::vector<size_t>{0, 0}));
    EXPECT_THROW(choose_bits(parts, 19), Error);
    EXPECT_THROW(choose_bits({{}}, 19), Error);
}

}  // namespace
}  // namespace vkqat

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
            part.push_back({.bits = bits,
                            .block = 64,
                            .bytes = size * uint64_t(bits),
                            .error = std::pow(0.25, bits),
                            .loss = sensitivity * std::pow(0.25, bits) * (0.7 + 0.6 * uniform(random))});
    }
    return parts;
}

TEST(BitBudget, TakesTheBestOfAllChoicesThatFit) {
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
            EXPECT_NEAR(found.loss, best, 1e-12 * best) << "seed " << seed << ", share " << share;
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

// Parts of gigabytes: bytes are counted in units, and what that leaves over is spent.
TEST(BitBudget, IsCloseToTheBestWhereBytesAreCountedInUnits) {
    auto parts = random_parts(3, 6);
    for (auto& part : parts)
        for (BitChoice& choice : part) choice.bytes = choice.bytes * 10'000'019 + uint64_t(choice.bits);
    uint64_t most = 0;
    for (auto& part : parts) most += part[3].bytes;
    const Sum found = sum(parts, choose_bits(parts, most / 2));
    EXPECT_LE(found.bytes, most / 2);
    double best = 1e300;
    for (size_t code = 0; code < 4096; code++) {
        std::vector<size_t> all;
        for (size_t p = 0; p < 6; p++) all.push_back(code >> (2 * p) & 3);
        const Sum s = sum(parts, all);
        if (s.bytes <= most / 2) best = std::min(best, s.loss);
    }
    EXPECT_LE(found.loss, 1.02 * best);
}

TEST(BitBudget, TakesTheBestWhereEverythingFitsAndFailsWhereNothingDoes) {
    const std::vector<std::vector<BitChoice>> parts = {{{1, 64, 10, 0, 5}, {2, 64, 20, 0, 1}, {4, 64, 40, 0, 2}},
                                                       {{1, 64, 10, 0, 1}, {2, 64, 20, 0, 1}}};
    EXPECT_EQ(choose_bits(parts, 1000), (std::vector<size_t>{1, 0}));
    EXPECT_EQ(choose_bits(parts, 20), (std::vector<size_t>{0, 0}));
    EXPECT_THROW(choose_bits(parts, 19), Error);
    EXPECT_THROW(choose_bits({{}}, 19), Error);
}

TEST(BitBudget, LossesLieOnLinesBetweenWhatWasMeasured) {
    const std::vector<ErrorAndLoss> points = {{4, 8}, {0, 0}, {2, 1}, {3, 0.5}};  // the last is noise
    EXPECT_DOUBLE_EQ(loss_at(points, 1), 0.5);
    EXPECT_DOUBLE_EQ(loss_at(points, 2.5), 1);
    EXPECT_DOUBLE_EQ(loss_at(points, 3.5), 4.5);
    EXPECT_DOUBLE_EQ(loss_at(points, 5), 15);
    EXPECT_DOUBLE_EQ(loss_at(points, -1), 0);
    EXPECT_DOUBLE_EQ(loss_at({{3, 2}}, 1), 2);
}

// A model in which errors of neighbouring parts add up instead of their squares, which no part tells alone.
TEST(BitBudget, ASearchMeasuresPartsAmongTheOthers) {
    const auto parts = random_parts(7, 12);
    const auto loss = [&](const std::vector<size_t>& chosen) {
        double sum = 0;
        for (size_t p = 0; p < parts.size(); p += 2) {
            const double a = std::sqrt(parts[p][chosen[p]].loss), b = std::sqrt(parts[p + 1][chosen[p + 1]].loss);
            sum += p % 4 ? (a + b) * (a + b) : (a - b) * (a - b);
        }
        return sum;
    };
    const auto changes = [&](const std::vector<size_t>& chosen) {
        std::vector<std::vector<BudgetModel::Change>> result(parts.size());
        for (size_t p = 0; p < parts.size(); p++)
            for (int step : {-1, 1}) {
                std::vector<size_t> other = chosen;
                other[p] += size_t(step);
                if (other[p] < parts[p].size()) result[p].push_back({other[p], loss(other) - loss(chosen)});
            }
        return result;
    };
    const uint64_t budget = sum(parts, std::vector<size_t>(12, 1)).bytes;
    const BudgetResult alone = search_bits(parts, budget, {loss, changes}, 0, {}),
                       found = search_bits(parts, budget, {loss, changes}, 5, {});
    EXPECT_EQ(alone.chosen, choose_bits(parts, budget));
    EXPECT_EQ(alone.uniform, 1);
    EXPECT_DOUBLE_EQ(alone.uniform_loss, loss(std::vector<size_t>(12, 1)));
    EXPECT_GE(found.rounds, 1);
    EXPECT_LT(found.loss, 0.95 * alone.loss);
    EXPECT_DOUBLE_EQ(found.loss, loss(found.chosen));
    EXPECT_LE(sum(parts, found.chosen).bytes, budget);
}

// Where what parts tell alone misleads, the uniform choice stays.
TEST(BitBudget, ASearchIsNeverWorseThanTheUniformChoice) {
    const auto parts = random_parts(9, 8);
    const auto loss = [&](const std::vector<size_t>& chosen) {
        double sum = 0;
        for (size_t index : chosen) sum += index == 1 ? 0 : 1;
        return sum;
    };
    const auto changes = [&](const std::vector<size_t>& chosen) {
        return std::vector<std::vector<BudgetModel::Change>>(chosen.size());
    };
    const BudgetResult found = search_bits(parts, sum(parts, std::vector<size_t>(8, 1)).bytes, {loss, changes}, 3, {});
    EXPECT_EQ(found.chosen, std::vector<size_t>(8, 1));
    EXPECT_EQ(found.loss, 0);
}

}  // namespace
}  // namespace vkqat

#include "runtime/graph/plan.h"

#include <gtest/gtest.h>

#include <random>

namespace vkqat {
namespace {

TEST(Place, PiecesAliveTogetherDoNotOverlapAndStayInTheirBlock) {
    std::mt19937 random(7);
    for (int round = 0; round < 20; round++) {
        std::vector<Lifetime> lives;
        for (int i = 0; i < 60; i++) {
            uint32_t first = random() % 100, length = random() % 20;
            lives.push_back({random() % 5000, first, first + length});
        }
        constexpr uint64_t block = 8192;
        Placement p = place(lives, block, 256);
        for (size_t i = 0; i < lives.size(); i++) {
            EXPECT_EQ(p.offsets[i] % 256, 0u);
            EXPECT_LE(p.offsets[i] + lives[i].bytes, p.bytes);
            uint64_t last = p.offsets[i] + std::max<uint64_t>(lives[i].bytes, 1) - 1;
            EXPECT_EQ(p.offsets[i] / block, last / block);
            for (size_t j = 0; j < i; j++) {
                bool together = lives[i].first <= lives[j].last && lives[j].first <= lives[i].last;
                bool apart = p.offsets[i] + lives[i].bytes <= p.offsets[j] || p.offsets[j] + lives[j].bytes <= p.offsets[i];
                EXPECT_TRUE(!together || apart);
            }
        }
    }
}

TEST(Place, APieceLargerThanABlockIsAnError) { EXPECT_THROW(place({{5000, 0, 1}}, 4096), Error); }

// Checks the barriers against the definition: between two conflicting nodes stands at least one.
TEST(Barriers, SeparateEveryConflictAndNothingElseAtTheStart) {
    std::mt19937 random(11);
    for (int round = 0; round < 50; round++) {
        std::vector<std::vector<MemoryUse>> uses(40);
        for (auto& node : uses)
            for (int i = 0; i < 3; i++) {
                uint64_t begin = random() % 1000;
                node.push_back({begin, begin + 1 + random() % 60, random() % 3 == 0});
            }
        auto result = barriers(uses);
        EXPECT_FALSE(result[0]);
        for (size_t i = 0; i < uses.size(); i++) {
            bool conflict_since_barrier = false;
            for (size_t j = i; j-- > 0;) {
                for (auto& a : uses[i])
                    for (auto& b : uses[j])
                        if (a.begin < b.end && b.begin < a.end && (a.writes || b.writes)) conflict_since_barrier = true;
                if (result[j]) break;
            }
            EXPECT_EQ(result[i], conflict_since_barrier) << i;
        }
    }
}

TEST(Barriers, IndependentNodesNeedNone) {
    EXPECT_EQ(barriers({{{0, 10, true}}, {{10, 20, true}}, {{20, 30, true}}}), std::vector<bool>({false, false, false}));
    EXPECT_EQ(barriers({{{0, 10, false}}, {{0, 10, false}}}), std::vector<bool>({false, false}));
}

}  // namespace
}  // namespace vkqat

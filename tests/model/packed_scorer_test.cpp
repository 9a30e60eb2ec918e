// Sequences that share their beginnings score as each does alone, on stories260K.
#include "runtime/model/packed_scorer.h"

#include <nlohmann/json.hpp>

#include "runtime/model/scorer.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

class ReferencePackedScorer : public testing::Test {
protected:
    void SetUp() override {
        if (test::data_folder().empty()) GTEST_SKIP() << "no folder of real data (VKQAT_DATA)";
        weights_ = std::make_unique<LlamaWeights>(test::device(), test::data_folder() / "stories260K");
    }
    std::vector<int32_t> ids(size_t count) {
        std::vector<int32_t> out(count);
        for (int32_t& id : out) id = int32_t(3 + random_() % 500);
        return out;
    }
    std::mt19937 random_{7};
    std::unique_ptr<LlamaWeights> weights_;
};

TEST_F(ReferencePackedScorer, PackedSequencesScoreAsAlone) {
    std::vector<SharedSequences> groups;
    groups.push_back({ids(30), {ids(5), ids(1), {}, ids(12)}});
    groups.push_back({ids(1), {ids(20)}});
    groups.push_back({ids(17), {{}}});
    std::vector<ScoredToken> wanted;
    for (size_t n = 0; n < groups.size(); n++)
        for (size_t i = 0; i < groups[n].rest.size(); i++) {
            const size_t length = groups[n].prefix.size() + groups[n].rest[i].size();
            for (size_t at = length - std::min<size_t>(length, 9); at < length; at++)
                wanted.push_back({int32_t(n), int32_t(i), int32_t(at), int32_t(random_() % 512)});
        }
    PackedScorer scorer(*weights_, 140, 64);
    for (int round = 0; round < 2; round++) {  // what the first left behind does not matter
        auto scores = scorer.score(groups, wanted);
        ASSERT_EQ(scores.size(), wanted.size());
        for (size_t n = 0; n < groups.size(); n++)
            for (size_t i = 0; i < groups[n].rest.size(); i++) {
                std::vector<int32_t> whole = groups[n].prefix;
                whole.insert(whole.end(), groups[n].rest[i].begin(), groups[n].rest[i].end());
                auto logits = all_logits(*weights_, whole);
                for (size_t w = 0; w < wanted.size(); w++) {
                    if (wanted[w].group != int32_t(n) || wanted[w].sequence != int32_t(i)) continue;
                    auto row = logits.begin() + ptrdiff_t(wanted[w].at) * 512;
                    double sum = 0;
                    for (int v = 0; v < 512; v++) sum += std::exp(double(row[v]));
                    EXPECT_NEAR(scores[w].nll, std::log(sum) - row[wanted[w].label], 2e-4);  // fp32, logits near 20
                    EXPECT_EQ(scores[w].best, std::max_element(row, row + 512) - row);
                }
            }
        std::swap(groups[0], groups[2]);
        for (ScoredToken& w : wanted) w.group = 2 - w.group;
    }
}

TEST_F(ReferencePackedScorer, WhatDoesNotFitIsAnError) {
    PackedScorer scorer(*weights_, 40, 4);
    std::vector<SharedSequences> good{{ids(10), {ids(3)}}};
    auto score = [&](std::vector<SharedSequences> groups, std::vector<ScoredToken> wanted) { scorer.score(groups, wanted); };
    score(good, {{0, 0, 12, 5}});
    EXPECT_THROW(score({{ids(10), {ids(31)}}}, {}), Error);  // tokens
    EXPECT_THROW(score({{{}, {ids(3)}}}, {}), Error);        // nothing shared
    EXPECT_THROW(score({{{512}, {{}}}}, {}), Error);         // an id
    EXPECT_THROW(score(good, {{0, 0, 13, 5}}), Error);       // places
    EXPECT_THROW(score(good, {{0, 1, 0, 5}}), Error);
    EXPECT_THROW(score(good, {{1, 0, 0, 5}}), Error);
    EXPECT_THROW(score(good, {{0, 0, 0, 512}}), Error);             // a label
    EXPECT_THROW(score(good, std::vector<ScoredToken>(5)), Error);  // rows
}

}  // namespace
}  // namespace vkqat

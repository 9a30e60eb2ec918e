// The session on stories260K, a real small model (VKQAT_DATA): known greedy text, known logits, and that the cached prefix,
// chunked prefill and tokens made in advance change nothing.
#include "runtime/model/session.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/model/scorer.h"
#include "runtime/text/tokenizer.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

class ReferenceStories : public testing::Test {
protected:
    void SetUp() override {
        folder_ = test::data_folder();
        if (folder_.empty()) GTEST_SKIP() << "no folder of real data (VKQAT_DATA)";
        folder_ /= "stories260K";
        std::ifstream(folder_ / "expected.json") >> expected_;
        weights_ = std::make_unique<LlamaWeights>(test::device(), folder_);
        prompt_ = expected_["prompt_ids"].get<std::vector<int32_t>>();
        greedy_ = expected_["greedy64_ids"].get<std::vector<int32_t>>();
    }
    std::vector<int32_t> continuation(Session& session, const std::vector<int32_t>& prompt, int64_t count) {
        std::vector<int32_t> out{session.prefill(prompt)};
        session.decode(count - 1, [&](int32_t token) {
            out.push_back(token);
            return true;
        });
        return out;
    }
    std::filesystem::path folder_;
    nlohmann::json expected_;
    std::unique_ptr<LlamaWeights> weights_;
    std::vector<int32_t> prompt_, greedy_;
};

TEST_F(ReferenceStories, GreedyTextIsTheKnownOne) {
    Tokenizer tokenizer = load_tokenizer(folder_);
    EXPECT_EQ(tokenizer.encode(expected_["prompt"].get<std::string>()), prompt_);
    for (DType cache : {DType::f32, DType::bf16}) {
        Session session(*weights_, {.context = 200, .cache = cache});
        EXPECT_EQ(continuation(session, prompt_, int64_t(greedy_.size())), greedy_);
    }
}

// 8 bits a number: 1/254 of the largest of a head's vector at most, which moves this model's logits by less than 3 %.
TEST_F(ReferenceStories, AnEightBitCacheStaysClose) {
    auto expected = expected_["last_logits"].get<std::vector<float>>();
    Session session(*weights_, {.context = 100, .prefill_rows = 7, .cache = DType::i8});
    session.prefill(prompt_);
    const double error = test::relative_error(session.logits(), expected);
    EXPECT_LT(error, 0.03);
    EXPECT_GT(error, 1e-5);  // it is one
    const auto text = continuation(session, prompt_, 20);
    EXPECT_TRUE(std::equal(text.begin(), text.begin() + 10, greedy_.begin()));
    Session exact(*weights_, {.context = 100});
    EXPECT_LT(session.cache_bytes(), exact.cache_bytes() / 2);
}

// Perplexity through the cache: with fp32 in it that of the scorer, in pieces of any size; with 8 bits a little more.
TEST_F(ReferenceStories, ScoresThroughTheCacheAreTheScorers) {
    std::vector<int32_t> text = prompt_;
    text.insert(text.end(), greedy_.begin(), greedy_.end());
    const auto n = int64_t(text.size());
    std::vector<int32_t> labels(text.begin() + 1, text.end()), start(text.size(), 0), end(text.size(), int32_t(n));
    labels.push_back(-1);
    auto expected = Scorer(*weights_, 1, n).score(text, labels, start, end);
    expected.pop_back();
    const double mean = std::accumulate(expected.begin(), expected.end(), 0.0) / double(n - 1);
    for (int64_t rows : {100, 16, 7}) {
        Sequences sequence(*weights_, {.count = 2, .context = 100, .prefill_rows = rows});
        EXPECT_LT(test::relative_error(sequence.score(1, text), expected), 1e-5) << rows;
    }
    Sequences eight(*weights_, {.context = 100, .prefill_rows = 16, .cache = DType::i8});
    const auto scores = eight.score(0, text);
    ASSERT_EQ(scores.size(), expected.size());
    EXPECT_NEAR(std::accumulate(scores.begin(), scores.end(), 0.0) / double(n - 1), mean, 0.03 * mean);
    EXPECT_NE(scores, expected);
}

TEST_F(ReferenceStories, LogitsOfThePromptAreTheKnownOnes) {
    auto expected = expected_["last_logits"].get<std::vector<float>>();
    Session session(*weights_, {.context = 100, .prefill_rows = 7});
    session.prefill(prompt_);
    // The file gives six decimals of the float64 logits.
    EXPECT_LT(test::relative_error(session.logits(), expected), 1e-5);
}

TEST_F(ReferenceStories, ReusedPrefixAndRewindChangeNothing) {
    Session session(*weights_, {.context = 200, .prefill_rows = 16});
    continuation(session, prompt_, 20);
    std::vector<int32_t> longer = prompt_;
    longer.insert(longer.end(), greedy_.begin(), greedy_.begin() + 30);
    auto rest = continuation(session, longer, 34);
    EXPECT_TRUE(std::equal(rest.begin(), rest.end(), greedy_.begin() + 30));
    session.rewind(4);
    EXPECT_EQ(continuation(session, prompt_, 64), greedy_);
}

TEST_F(ReferenceStories, StoppingEarlyForgetsTheTokensMadeInAdvance) {
    Session session(*weights_, {.context = 200});
    std::vector<int32_t> out{session.prefill(prompt_)};
    while (out.size() < greedy_.size()) {  // three at a time: the GPU is always ahead when it is stopped
        int n = 0;
        session.decode(1000, [&](int32_t token) {
            out.push_back(token);
            return ++n < 3 && out.size() < greedy_.size();
        });
    }
    EXPECT_EQ(out, greedy_);
}

TEST_F(ReferenceStories, AFullContextEndsTheText) {
    Session session(*weights_, {.context = 20});
    session.prefill(prompt_);
    int64_t made = session.decode(100, [](int32_t) { return true; });
    EXPECT_EQ(made, 20 - int64_t(prompt_.size()));
    EXPECT_EQ(session.decode(1, [](int32_t) { return true; }), 0);
    EXPECT_THROW(session.prefill(std::vector<int32_t>(21, 1)), Error);
    EXPECT_THROW(session.prefill(std::vector<int32_t>{512}), Error);
    EXPECT_THROW(session.prefill(std::vector<int32_t>{}), Error);
}

}  // namespace
}  // namespace vkqat

// The session on stories260K, a real small model (VKQAT_DATA): known greedy text, known logits, and that the cached prefix,
// chunked prefill and tokens made in advance change nothing.
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/model/session.h"
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

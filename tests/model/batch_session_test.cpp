// Many texts at once on stories260K and on a packed model: each is what it is alone, whatever stands beside it.
#include "runtime/model/batch_session.h"

#include <algorithm>
#include <map>

#include "runtime/model/session.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

class ReferenceBatch : public testing::Test {
protected:
    void SetUp() override {
        folder_ = test::data_folder();
        if (folder_.empty()) GTEST_SKIP() << "no folder of real data (VKQAT_DATA)";
        weights_ = std::make_unique<LlamaWeights>(test::device(), folder_ / "stories260K");
    }
    // Prompts of several lengths: a start token and words of the model.
    static std::vector<int32_t> prompt(int number) {
        std::vector<int32_t> ids{1};
        for (int i = 0; i < 1 + number * 5 % 23; i++) ids.push_back(260 + (number * 37 + i * 11) % 250);
        return ids;
    }
    static SamplerParameters sampled(uint32_t seed) {
        return {.temperature = 0.9f,
                .top_p = 0.95f,
                .min_p = 0,
                .repetition_penalty = 1.1f,
                .top_k = 40,
                .greedy = 0,
                .seed_low = seed,
                .seed_high = 0};
    }
    std::vector<int32_t> alone(const GenerationRequest& r, int64_t context) {
        Session session(*weights_, {.context = context});
        session.set_sampler(r.sampler);
        std::vector<int32_t> tokens;
        auto take = [&](int32_t token) {
            if (std::find(r.ends.begin(), r.ends.end(), token) != r.ends.end()) return false;
            tokens.push_back(token);
            return int64_t(tokens.size()) < r.max_tokens;
        };
        if (take(session.prefill(r.prompt))) session.decode(1000, take);
        return tokens;
    }
    static std::map<int64_t, GenerationResult> all(BatchSession& batch) {
        std::map<int64_t, GenerationResult> results;
        while (batch.unfinished() > 0)
            for (GenerationResult& r : batch.step()) results[r.id] = std::move(r);
        return results;
    }
    std::filesystem::path folder_;
    std::unique_ptr<LlamaWeights> weights_;
};

// Other kernels serve other numbers of sequences, and on GPUs they sum in other orders; then a text may part from the one that
// it is alone where two tokens are close.
bool sums_alike() { return test::device().capabilities().kind == DeviceKind::cpu; }

TEST_F(ReferenceBatch, EachTextIsWhatItIsAlone) {
    if (!sums_alike()) GTEST_SKIP() << "equal to the last bit on CPUs only";
    constexpr int64_t context = 80;
    std::vector<GenerationRequest> requests;
    for (int i = 0; i < 7; i++) {
        GenerationRequest r{.prompt = prompt(i), .max_tokens = 5 + 13 * i % 40};
        if (i % 2) r.sampler = sampled(uint32_t(100 + i));
        requests.push_back(r);
    }
    std::vector<std::vector<int32_t>> expected;
    for (auto& r : requests) expected.push_back(alone(r, context));
    for (auto [slots, at_once] : {std::pair(1, 3), std::pair(3, 1), std::pair(3, 8), std::pair(7, 4)}) {
        SCOPED_TRACE(fmt::format("{} slots, {} tokens at once", slots, at_once));
        BatchSession batch(*weights_, {.slots = slots, .context = context, .at_once = at_once});
        for (auto& r : requests) batch.add(r);
        auto results = all(batch);
        ASSERT_EQ(results.size(), requests.size());
        int64_t made = 0;
        for (size_t i = 0; i < requests.size(); i++) {
            EXPECT_EQ(results[int64_t(i)].tokens, expected[i]) << "request " << i;
            EXPECT_EQ(results[int64_t(i)].stop, Stop::max_tokens);
            made += int64_t(expected[i].size());
        }
        EXPECT_EQ(batch.made(), made);
    }
}

TEST_F(ReferenceBatch, NeitherNeighboursNorTheSlotChangeAText) {
    std::vector<GenerationRequest> requests;
    for (int i = 0; i < 6; i++)
        requests.push_back(
            {.prompt = prompt(i), .sampler = i % 2 ? sampled(uint32_t(i)) : greedy_parameters(), .max_tokens = 4 + 9 * i % 30});
    std::vector<std::vector<int32_t>> texts;
    for (bool backwards : {false, true}) {
        BatchSession batch(*weights_, {.slots = 4, .context = 80});
        if (backwards) batch.add({.prompt = prompt(9), .max_tokens = 33});  // shifts the slots of the others
        const int64_t first = backwards;
        if (backwards) std::reverse(requests.begin(), requests.end());
        for (auto& r : requests) batch.add(r);
        auto results = all(batch);
        for (size_t i = 0; i < requests.size(); i++) {
            if (!backwards)
                texts.push_back(results[int64_t(i)].tokens);
            else
                EXPECT_EQ(results[first + int64_t(i)].tokens, texts[requests.size() - 1 - i]) << "text " << i;
        }
    }
}

TEST_F(ReferenceBatch, PackedModelsGiveTheTextsThatTheyGiveAlone) {
    const auto folder = test::reference_folder();
    if (folder.empty()) GTEST_SKIP() << "no folder of reference vectors (VKQAT_REFERENCE)";
    if (!sums_alike()) GTEST_SKIP() << "equal to the last bit on CPUs only";
    for (const char* model : {"tiny-bf16", "tiny-kmeans-4bit", "tiny-kmeans-2bit", "tiny-kmeans-1bit"}) {
        SCOPED_TRACE(model);
        weights_ = std::make_unique<LlamaWeights>(test::device(), folder / model);
        const auto vocab = int32_t(weights_->config().vocab_size);
        std::vector<GenerationRequest> requests;
        for (int i = 0; i < 5; i++) {
            GenerationRequest r{.prompt = prompt(i + 4), .max_tokens = 12};
            for (int32_t& id : r.prompt) id %= vocab;
            requests.push_back(r);
        }
        BatchSession batch(*weights_, {.slots = 5, .context = 64});
        for (auto& r : requests) batch.add(r);
        auto results = all(batch);
        for (size_t i = 0; i < requests.size(); i++) EXPECT_EQ(results[int64_t(i)].tokens, alone(requests[i], 64)) << i;
    }
}

TEST_F(ReferenceBatch, TextsEndForTheirOwnReasons) {
    if (!sums_alike()) GTEST_SKIP() << "equal to the last bit on CPUs only";
    constexpr int64_t context = 40;
    GenerationRequest plain{.prompt = prompt(3), .max_tokens = 12};
    const auto text = alone(plain, context);
    auto fourth = std::find(text.begin(), text.end(), text[4]);  // where this token comes first
    GenerationRequest ends = plain, first = plain, called = plain, fills = plain, one = plain;
    ends.ends = {511, text[4]};
    first.ends = {text[0]};
    std::vector<int32_t> streamed;
    called.on_token = [&](int32_t token) {
        streamed.push_back(token);
        return streamed.size() < 3;
    };
    fills.max_tokens = 1000;
    one.max_tokens = 1;
    BatchSession batch(*weights_, {.slots = 2, .context = context});
    for (auto& r : {ends, first, called, fills, one, plain}) batch.add(r);
    auto results = all(batch);
    EXPECT_EQ(results[0].tokens, std::vector<int32_t>(text.begin(), fourth));
    EXPECT_EQ(results[0].stop, Stop::end);
    EXPECT_TRUE(results[1].tokens.empty());
    EXPECT_EQ(results[1].stop, Stop::end);
    EXPECT_EQ(results[2].tokens, std::vector<int32_t>(text.begin(), text.begin() + 3));
    EXPECT_EQ(results[2].tokens, streamed);
    EXPECT_EQ(results[2].stop, Stop::caller);
    EXPECT_EQ(int64_t(results[3].tokens.size()), context - int64_t(plain.prompt.size()) + 1);
    EXPECT_EQ(results[3].stop, Stop::context);
    EXPECT_EQ(results[4].tokens, std::vector<int32_t>(text.begin(), text.begin() + 1));
    EXPECT_EQ(results[5].tokens, text);
    // A session that has run dry takes further requests.
    EXPECT_TRUE(batch.step().empty());
    EXPECT_EQ(batch.add(plain), 6);
    EXPECT_EQ(all(batch)[6].tokens, text);
}

TEST_F(ReferenceBatch, PromptsThatBeginAlikeKeepTheirBeginning) {
    if (!sums_alike()) GTEST_SKIP() << "equal to the last bit on CPUs only";
    const auto examples = prompt(4), other = prompt(2);  // 21 and 12 tokens
    std::vector<GenerationRequest> requests;
    for (int i = 0; i < 6; i++) {
        GenerationRequest r{.prompt = i % 3 == 2 ? other : examples, .max_tokens = 6 + i};
        r.prompt.push_back(300 + i);
        requests.push_back(r);
    }
    GenerationRequest further = requests[0];  // goes on behind the text of the first
    const auto text = alone(requests[0], 80);
    further.prompt.insert(further.prompt.end(), text.begin(), text.end());
    further.prompt.push_back(299);
    requests.push_back(further);
    requests.push_back(requests[0]);  // the same again: its last token must run
    BatchSession batch(*weights_, {.slots = 2, .context = 80, .keep_prefix = true});
    for (auto& r : requests) batch.add(r);
    auto results = all(batch);
    for (size_t i = 0; i < requests.size(); i++) EXPECT_EQ(results[int64_t(i)].tokens, alone(requests[i], 80)) << i;
    EXPECT_GE(batch.reused(), 3 * int64_t(examples.size()));
    BatchSession plain(*weights_, {.slots = 2, .context = 80});
    for (auto& r : requests) plain.add(r);
    all(plain);
    EXPECT_EQ(plain.reused(), 0);
}

TEST_F(ReferenceBatch, RequestsThatCannotBeServedAreErrors) {
    BatchSession batch(*weights_, {.slots = 2, .context = 8});
    EXPECT_THROW(batch.add({.prompt = {}}), Error);
    EXPECT_THROW(batch.add({.prompt = std::vector<int32_t>(9, 1)}), Error);
    EXPECT_THROW(batch.add({.prompt = {512}}), Error);
    EXPECT_THROW(batch.add({.prompt = {1}, .max_tokens = 0}), Error);
    EXPECT_EQ(batch.unfinished(), 0);
    EXPECT_THROW(BatchSession(*weights_, {.slots = 0}), Error);
}

}  // namespace
}  // namespace vkqat

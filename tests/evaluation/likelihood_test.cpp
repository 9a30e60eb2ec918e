// Packing, sharing and the order of questions change no score; on stories260K and its tokenizer.
#include "evaluation/likelihood.h"

#include "runtime/model/scorer.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"

namespace vkqat::test {
namespace {

class ReferenceLikelihood : public testing::Test {
protected:
    void SetUp() override {
        if (data_folder().empty()) GTEST_SKIP() << "no folder of real data (VKQAT_DATA)";
        weights = std::make_unique<LlamaWeights>(device(), data_folder() / "stories260K");
        tokenizer.emplace(load_tokenizer(data_folder() / "stories260K"));
    }
    std::unique_ptr<LlamaWeights> weights;
    std::optional<Tokenizer> tokenizer;
};

TEST_F(ReferenceLikelihood, PairsAreCutAsTheHarnessCutsThem) {
    TokenPair plain = encode_pair(*tokenizer, "Once upon", " a time", 512);
    auto whole = tokenizer->encode("Once upon a time"), front = tokenizer->encode("Once upon");
    EXPECT_EQ(plain.ids, whole);
    EXPECT_EQ(plain.predicted, whole.size() - front.size());
    // White space behind the context is the continuation's.
    EXPECT_EQ(encode_pair(*tokenizer, "Once upon \n", "a time", 512).predicted,
              tokenizer->encode("Once upon \na time").size() - front.size());
    // An empty context: the start token.
    TokenPair none = encode_pair(*tokenizer, "", " a time", 512);
    EXPECT_EQ(none.ids[0], *tokenizer->bos());
    EXPECT_EQ(none.predicted, none.ids.size() - 1);
    // As much of the front goes as does not fit.
    TokenPair cut = encode_pair(*tokenizer, "Once upon", " a time", 3);
    EXPECT_EQ(cut.ids, std::vector<int32_t>(whole.end() - 4, whole.end()));
    EXPECT_THROW(encode_pair(*tokenizer, "Once upon", " a time there was a girl", 3), Error);
    EXPECT_THROW(encode_pair(*tokenizer, "Once", "", 512), Error);
}

TEST_F(ReferenceLikelihood, PackedScoresAreThoseOfEachSequenceAlone) {
    Task task{.name = "t"};
    auto add = [&](std::vector<std::string> contexts, std::vector<std::string> rest) {
        task.questions.push_back(
            {.row = task.questions.size() + 1, .contexts = contexts, .continuations = rest, .choices = rest});
    };
    add({"Once upon a time there was a dog. The dog", "Once upon a time there was a dog. The dog"},
        {" was happy.", " ate a big red ball and"});
    add({"Lily saw", "Tom and Mia saw"}, {" a cat.", " a cat."});
    add({""}, {" a little girl named"});
    std::string examples;
    for (int i = 0; i < 12; i++) examples += "The cat sat on the mat. ";
    for (const char* end : {"It said", "She was", "They ran"}) add(std::vector<std::string>(2, examples + end), {" a", " b"});

    std::vector<std::vector<double>> alone;
    for (const Question& q : task.questions) {
        alone.emplace_back();
        for (size_t n = 0; n < q.contexts.size(); n++) {
            TokenPair pair = encode_pair(*tokenizer, q.contexts[n], q.continuations[n], 512);
            auto logits = all_logits(*weights, std::vector<int32_t>(pair.ids.begin(), pair.ids.end() - 1));
            double sum = 0;
            for (size_t at = pair.ids.size() - pair.predicted; at < pair.ids.size(); at++) {
                auto row = logits.begin() + ptrdiff_t(at - 1) * 512;
                double total = 0;
                for (int v = 0; v < 512; v++) total += std::exp(double(row[v]));
                sum += row[pair.ids[at]] - std::log(total);
            }
            alone.back().push_back(sum);
        }
    }
    for (int64_t batch : {16, 200, 4096}) {
        std::vector<std::optional<QuestionScore>> scores(task.questions.size());
        scores[1] = QuestionScore{{1, 2}, {true, true}};  // known: left alone
        size_t done = 0;
        LikelihoodOptions options{.batch_tokens = batch};
        options.done = [&](size_t question, const QuestionScore&) { done += question != 1; };
        LikelihoodWork work = score_questions(*weights, *tokenizer, task, scores, options);
        EXPECT_EQ(done, task.questions.size() - 1);
        EXPECT_LT(work.computed, work.tokens);
        EXPECT_EQ(scores[1]->log_likelihood[1], 2);
        for (size_t i = 0; i < alone.size(); i++)
            for (size_t n = 0; n < alone[i].size() && i != 1; n++)
                EXPECT_NEAR(scores[i]->log_likelihood[n], alone[i][n], 1e-3) << batch << " " << i << " " << n;  // fp32 sums
    }
}

}  // namespace
}  // namespace vkqat::test

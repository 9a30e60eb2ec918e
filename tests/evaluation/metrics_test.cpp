#include "evaluation/metrics.h"

#include <cmath>

#include "evaluation/store.h"
#include "tests/support/scratch_folder.h"

namespace vkqat::test {
namespace {

Task two_choices(int questions) {
    Task t{.name = "t"};
    for (int i = 0; i < questions; i++)
        t.questions.push_back({.row = size_t(i + 1),
                               .contexts = {"c", "c"},
                               .continuations = {" éé", " abcd"},
                               .choices = {"éé", "abcd"},
                               .gold = 1});
    return t;
}

TEST(Metrics, LengthsAreCharactersOrBytes) {
    Task t = two_choices(4);
    std::vector<std::optional<QuestionScore>> scores;
    // per character -2 and -2.25, -1.5 and -2.25 ...; per byte both of 4
    for (double first : {-4.0, -8.0, -9.0, -10.0}) scores.push_back(QuestionScore{{first, -9.0}, {false, false}});
    auto m = metrics_of(t, scores);
    ASSERT_EQ(m.size(), 3u);
    EXPECT_EQ(m[0].value, 0.25);  // -9 against -9: the first one counts
    EXPECT_EQ(m[1].value, 0.75);
    EXPECT_EQ(m[2].value, 0.25);
    EXPECT_NEAR(m[0].error, std::sqrt(0.75 / 3 / 4), 1e-15);
    scores[2]->log_likelihood[1] = NAN;
    EXPECT_CONTAINS(error_of([&] { metrics_of(t, scores); }), "row 3");
}

TEST(Metrics, TargetsGivePerplexityAndGreedyAccuracy) {
    Task t{.name = "t", .kind = TaskKind::target};
    t.questions.resize(2);
    auto m = metrics_of(t, std::vector<std::optional<QuestionScore>>{QuestionScore{{-1}, {true}}, QuestionScore{{-3}, {false}}});
    EXPECT_NEAR(m[0].value, std::exp(2), 1e-12);
    EXPECT_NEAR(m[0].error, std::exp(2) * 1, 1e-12);  // deviation sqrt(2), of two
    EXPECT_EQ(m[1].value, 0.5);
}

TEST(Metrics, PooledAsTheHarnessDoes) {
    auto m = pooled({{{"acc", 0.5, 0.1}}, {{"acc", 1.0, 0.2}}}, {10, 30});
    EXPECT_NEAR(m[0].value, 0.875, 1e-15);
    EXPECT_NEAR(m[0].error, std::sqrt((9 * 10 * 0.01 + 29 * 30 * 0.04) / 38 / 40), 1e-15);
}

TEST(Metrics, AnswersOfGsm8k) {
    Task t{.name = "gsm8k", .kind = TaskKind::generation};
    t.patterns = {{"strict-match", "(?<=#### )-?[0-9.,]+", false}, {"flexible-extract", "-?[$0-9.,]{2,}|-?[0-9]+", true}};
    t.numeric = true;
    Question q{.answer = "She has 5.\n#### 1,234"};
    auto right = [&](const char* text) {
        Answer a = judge(t, q, text);
        return std::make_pair(bool(a.right[0]), bool(a.right[1]));
    };
    EXPECT_EQ(right(" It is 7. #### 1234."), std::make_pair(true, true));
    EXPECT_EQ(right("The answer is $1,234"), std::make_pair(false, true));
    EXPECT_EQ(right("#### 1,234 or 5"), std::make_pair(true, false));
    EXPECT_EQ(right("nothing"), std::make_pair(false, false));
    EXPECT_EQ(judge(t, q, "nothing").found[0], "[invalid]");
}

TEST(ScoreStore, GoesOnWhereItStopped) {
    ScratchFolder folder;
    Task t = two_choices(3);
    StoreKey key{"m", "t", t.digest(), "gpu"};
    auto file = folder / "a/t.jsonl";
    {
        ScoreStore store(file, key, t);
        store.add(2, QuestionScore{{-0.1, -1e-300}, {true, false}});
    }
    std::ofstream(file, std::ios::app) << "{\"question\":1,\"log";  // killed while writing
    {
        ScoreStore store(file, key, t);
        EXPECT_FALSE(store.scores[0] || store.scores[1]);
        ASSERT_TRUE(store.scores[2]);
        EXPECT_EQ(store.scores[2]->log_likelihood, (std::vector<double>{-0.1, -1e-300}));
        EXPECT_EQ(store.scores[2]->greedy, (std::vector<bool>{true, false}));
        store.add(0, QuestionScore{{-1, -2}, {false, false}});
    }
    ScoreStore again(file, key, t);
    EXPECT_TRUE(again.scores[0] && again.scores[2]);
    key.model_digest = "other";
    EXPECT_CONTAINS(error_of([&] { ScoreStore(file, key, t); }), "another model_digest");
    key.model_digest = "m";
    std::ofstream(file, std::ios::app) << "{\"question\":7}\n";
    EXPECT_CONTAINS(error_of([&] { ScoreStore(file, key, t); }), "only 3 questions");
}

}  // namespace
}  // namespace vkqat::test

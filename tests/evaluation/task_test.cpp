// The prompts of the tasks, as lm-evaluation-harness 0.4.13 makes them of the same rows; files that are wrong.
#include "evaluation/task.h"

#include "evaluation/rows.h"
#include "evaluation/task_toml.h"
#include "evaluation/text.h"
#include "runtime/support/error.h"
#include "tests/support/scratch_folder.h"

namespace vkqat::test {
namespace {

class Tasks : public testing::Test {
protected:
    Task load(const std::string& name, const std::string& rows, TaskOptions options = {}) {
        auto file = folder.write(name + ".jsonl", rows);
        auto requests = find_tasks(name + "=" + file.string());
        auto tasks = load_tasks(requests.at(0), options);
        EXPECT_EQ(tasks.size(), 1u);
        return tasks.at(0);
    }
    ScratchFolder folder;
};

TEST_F(Tasks, HellaswagIsCleanedOfWikiHow) {
    Task t = load("hellaswag", R"({"activity_label":"Baking","ctx_a":"A man  bakes [step] bread.","ctx_b":"the Man","label":"1",)"
                               R"("endings":["eats [title] it.","sleeps [a]b[c"]})");
    const Question& q = t.questions.at(0);
    EXPECT_EQ(q.contexts, std::vector<std::string>(2, "Baking: A man bakes bread. The man"));
    EXPECT_EQ(q.choices, (std::vector<std::string>{"eats. it.", "sleeps b[c"}));
    EXPECT_EQ(q.continuations[0], " eats. it.");
    EXPECT_EQ(q.gold, 1);
}

TEST_F(Tasks, WinograndeScoresWhatFollowsTheOptions) {
    Task t = load("winogrande", R"({"sentence":"Ann saw Bea so _ waved. ","option1":"Ann","option2":"Bea","answer":"2"})"
                                "\n\n"
                                R"({"context_options":["a b","a c"],"continuation":"d.","gold":0})");
    ASSERT_EQ(t.questions.size(), 2u);
    EXPECT_EQ(t.questions[0].contexts, (std::vector<std::string>{"Ann saw Bea so Ann", "Ann saw Bea so Bea"}));
    EXPECT_EQ(t.questions[0].continuations, (std::vector<std::string>{" waved.", " waved."}));
    EXPECT_EQ(t.questions[0].choices, t.questions[0].contexts);
    EXPECT_EQ(t.questions[0].gold, 1);
    EXPECT_EQ(t.questions[1].continuations[1], " d.");
    EXPECT_EQ(t.questions[1].row, 3u);
}

TEST_F(Tasks, BothFormsOfARowAskTheSame) {
    struct Pair {
        const char *task, *hugging_face, *llm_foundry, *context;
    };
    for (const Pair& p :
         {Pair{"piqa", R"({"goal":"Wash","sol1":"soap","sol2":"mud","label":0})",
               R"({"query":"Question: Wash\n","choices":["soap","mud"],"gold":0})", "Question: Wash\nAnswer:"},
          Pair{"boolq", R"({"passage":"P.","question":"is it","label":1})",
               R"({"query":"Passage: P.\nQuestion: is it?","choices":["no","yes"],"gold":1})", "P.\nQuestion: is it?\nAnswer:"},
          Pair{"arc_easy", R"({"question":"Q?","choices":{"text":["x","y"],"label":["1","2"]},"answerKey":"2"})",
               R"({"query":"Question: Q?","choices":["x","y"],"gold":1})", "Question: Q?\nAnswer:"}}) {
        Task a = load(p.task, p.hugging_face), b = load(p.task, p.llm_foundry);
        EXPECT_EQ(a.questions[0].contexts[0], p.context);
        EXPECT_EQ(a.questions[0].contexts, b.questions[0].contexts);
        EXPECT_EQ(a.questions[0].continuations, b.questions[0].continuations);
        EXPECT_EQ(a.questions[0].gold, b.questions[0].gold);
        EXPECT_EQ(a.digest(), b.digest());
    }
}

TEST_F(Tasks, OpenbookqaAndLambada) {
    Task o = load("openbookqa", R"({"question_stem":"The sun","choices":{"text":["x","y"],"label":["A","B"]},"answerKey":" B"})");
    EXPECT_EQ(o.questions[0].contexts[0], "The sun");
    EXPECT_EQ(o.questions[0].gold, 1);
    Task l = load("lambada", R"({"text":"he said to  Anne"})");
    EXPECT_EQ(l.kind, TaskKind::target);
    EXPECT_EQ(l.questions[0].contexts[0], "he said to ");
    EXPECT_EQ(l.questions[0].continuations[0], " Anne");
}

TEST_F(Tasks, MmluHasWorkedExamplesInFront) {
    std::filesystem::create_directories(folder / "mmlu/dev");
    std::filesystem::create_directories(folder / "mmlu/test");
    std::string header = "question,choice0,choice1,choice2,choice3,answer\n", dev = header;
    for (int i = 0; i < 5; i++) dev += "\"D, \"\"x\"\"\n\",a,b,c,d,1\n";
    folder.write("mmlu/dev/high_school_art_dev.csv", dev);
    folder.write("mmlu/test/high_school_art_test.csv", header + "T?,p,q,r,s,3\n");
    auto tasks = load_tasks(find_tasks((folder / "mmlu").string()).at(0), {});
    ASSERT_EQ(tasks.size(), 1u);
    EXPECT_EQ(tasks[0].name, "mmlu_high_school_art");
    EXPECT_EQ(tasks[0].group, "mmlu");
    const Question& q = tasks[0].questions.at(0);
    std::string example = "D, \"x\"\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\n",
                expected = "The following are multiple choice questions (with answers) about high school art.\n\n";
    for (int i = 0; i < 5; i++) expected += example;
    EXPECT_EQ(q.contexts[0], expected + "T?\nA. p\nB. q\nC. r\nD. s\nAnswer:");
    EXPECT_EQ(q.continuations, (std::vector<std::string>{" A", " B", " C", " D"}));
    EXPECT_EQ(q.gold, 3);
    EXPECT_THROW(load_tasks(find_tasks((folder / "mmlu").string()).at(0), {.few_shot = 6}), Error);
    auto none = load_tasks(find_tasks((folder / "mmlu").string()).at(0), {.few_shot = 0});
    EXPECT_TRUE(none[0].questions[0].contexts[0].ends_with("art.\n\nT?\nA. p\nB. q\nC. r\nD. s\nAnswer:"));
}

TEST_F(Tasks, DescribedInToml) {
    folder.write("rows.jsonl", "{\"p\":{\"q\":[\"zero\",\" one \"]},\"c\":\"x\",\"right\":\"B\"}\n");
    folder.write("train.json", R"({"rows":[{"row":{"p":{"q":["a","b"]},"c":"y","right":0}}]})");
    Task t = load_tasks(find_tasks(folder
                                       .write("mine.toml",
                                              "name = \"mine\"\ndata = \"rows.jsonl\"\n"
                                              "prompt = \"{{p.q[1]|strip}} and {{ c }}:\"\n"
                                              "choices = [\"yes {{c}}\", \"no\"]\ngold = \"right\"\n"
                                              "few_shot = 1\nfew_shot_data = \"train.json\"\n"
                                              "description = \"Now. \"\nfew_shot_delimiter = \"; \"\n")
                                       .string())
                            .at(0),
                        {})
                 .at(0);
    EXPECT_EQ(t.name, "mine");
    EXPECT_EQ(t.questions[0].contexts[1], "Now. b and y: yes y; one and x:");
    EXPECT_EQ(t.questions[0].continuations, (std::vector<std::string>{" yes x", " no"}));
    EXPECT_EQ(t.questions[0].gold, 1);

    auto error = [&](std::string text) { return error_of([&] { load_toml_task(folder.write("bad.toml", text), {}); }); };
    std::string start = "name = \"n\"\ndata = \"rows.jsonl\"\n";
    EXPECT_CONTAINS(error(start + "promt = \"\"\n"), "unknown key \"promt\"");
    EXPECT_CONTAINS(error(start), "\"prompt\" is missing");
    EXPECT_CONTAINS(error(start + "prompt = \"{{z}}\"\nchoices = [\"a\", \"b\"]\ngold = \"right\"\n"),
                    "row 1: there is no \"z\"");
    EXPECT_CONTAINS(error(start + "prompt = \"{{c\"\nchoices = [\"a\", \"b\"]\ngold = \"right\"\n"), "without }}");
    EXPECT_CONTAINS(error(start + "prompt = \"\"\nchoices = [\"a\"]\ngold = \"right\"\n"), "at least 2");
    EXPECT_CONTAINS(error(start + "prompt = \"\"\nchoices = [\"a\", \"b\"]\ngold = \"c\"\n"), "found \"x\"");
}

TEST_F(Tasks, WrongFilesSayWhereAndWhat) {
    auto error = [&](const std::string& name, const std::string& rows) { return error_of([&] { load(name, rows); }); };
    EXPECT_CONTAINS(error("piqa", ""), "holds no rows");
    EXPECT_CONTAINS(error("piqa", "{\"goal\":\"a\"}"), "row 1: piqa: there is no \"");
    EXPECT_CONTAINS(error("piqa", "\n{\"goal\":"), "row 2: not valid JSON");
    EXPECT_CONTAINS(error("piqa", "[1]"), "row 1: expected a JSON object");
    EXPECT_CONTAINS(error("piqa", R"({"goal":"a","sol1":"b","sol2":"c","label":2})"), "from 0 to 1");
    EXPECT_CONTAINS(error("piqa", R"({"goal":1,"sol1":"b","sol2":"c","label":0})"), "expected text, found 1");
    EXPECT_CONTAINS(error("arc_easy", R"({"question":"Q","choices":{"text":["x"],"label":["A"]},"answerKey":"E"})"),
                    "\"answerKey\" is \"E\"");
    EXPECT_CONTAINS(error("winogrande", R"({"sentence":"none","option1":"a","option2":"b","answer":"1"})"), "expected a _");
    EXPECT_CONTAINS(error("gsm8k", R"({"question":"Q","answer":"1"})"), "worked examples");
    EXPECT_CONTAINS(error_of([] { find_tasks("nothing.jsonl"); }), "no such file");
    EXPECT_CONTAINS(error_of([&] { find_tasks("dance=" + folder.write("x.jsonl", "").string()); }), "no task 'dance'");
    EXPECT_CONTAINS(error_of([&] { find_tasks(folder.write("x.jsonl", "").string()); }), "the name holds that of no task");
}

TEST_F(Tasks, AFolderIsSearchedByNames) {
    for (const char* name : {"val_arc-challenge.jsonl", "arc_easy.json", "notes.txt"}) folder.write(name, "x");
    auto all = find_tasks(folder.path().string());
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].name, "arc_easy");
    EXPECT_EQ(all[1].name, "arc_challenge");
}

TEST(PythonText, StripCapitalizeCount) {
    EXPECT_EQ(strip(" \t\u00a0a b\u2003\n"), "a b");
    EXPECT_EQ(trailing_white_space("a \u3000"), 4u);
    EXPECT_EQ(capitalize("éCOLE Ünd X"), "École ünd x");
    EXPECT_EQ(capitalize(""), "");
    EXPECT_EQ(count_characters("aé你🚀"), 4u);
}

}  // namespace
}  // namespace vkqat::test

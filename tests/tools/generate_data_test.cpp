// vkqat generate-data: what a model writes for another one, and going on where a run was ended.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/support/files.h"
#include "runtime/text/tokenizer.h"
#include "tests/support/scratch_folder.h"
#include "tests/tools/program.h"
#include "tests/tools/small_model.h"
#include "trainer/sft_examples.h"

namespace vkqat::test {
namespace {

using nlohmann::json;

class GenerateData : public testing::Test {
protected:
    void SetUp() override {
        write_small_model(model);
        std::string text;
        for (int i = 0; i < 12; i++) text += "abc " + std::to_string(i) + " xyz aaab bbba and so on\n\n";
        folder.write("corpus.txt", text + "short\n\n");
    }
    std::vector<std::string> arguments(std::vector<std::string> more) const {
        std::vector<std::string> args{"generate-data", model, "--out", out, "--max-tokens", max_tokens, "--batch", "3"};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }
    ProgramResult run(std::vector<std::string> more) const { return run_on_device(arguments(std::move(more))); }
    std::vector<json> lines() const {
        std::ifstream file(out);
        std::vector<json> result;
        for (std::string line; std::getline(file, line);) result.push_back(json::parse(line));
        return result;
    }
    ScratchFolder folder;
    std::string model = folder / "model", out = folder / "out.jsonl", corpus = folder / "corpus.txt", max_tokens = "12";
};

TEST_F(GenerateData, ContinuesTheBeginningsOfTexts) {
    const ProgramResult result = run({corpus, "--prompt-tokens", "8"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_CONTAINS(result.err, "[12 texts, ");
    EXPECT_FALSE(std::filesystem::exists(out + ".progress"));
    const Tokenizer tokenizer = load_tokenizer(model);
    const std::vector<json> all = lines();
    ASSERT_EQ(all.size(), 12u) << "that of 5 letters has no more than the prompt";
    for (size_t i = 0; i < all.size(); i++) {
        const SftExample example = parse_sft_example(all[i].dump());
        EXPECT_TRUE(example.prompt.starts_with("abc " + std::to_string(i)));
        EXPECT_EQ(tokenizer.encode(example.prompt, {.add_bos = false}).size(), 8u);
        EXPECT_FALSE(example.continuation->empty());
    }
    // Another time the same, and other texts with another seed.
    const std::string first = read_text_file(out);
    EXPECT_EQ(run({corpus, "--prompt-tokens", "8"}).exit_code, 1) << "results are not written over";
    std::filesystem::remove(out);
    ASSERT_EQ(run({corpus, "--prompt-tokens", "8"}).exit_code, 0);
    EXPECT_EQ(read_text_file(out), first);
    std::filesystem::remove(out);
    ASSERT_EQ(run({corpus, "--prompt-tokens", "8", "--seed", "5"}).exit_code, 0);
    EXPECT_NE(read_text_file(out), first);
    std::filesystem::remove(out);
    ASSERT_EQ(run({corpus, "--prompt-tokens", "8", "--samples", "5"}).exit_code, 0);
    EXPECT_EQ(lines().size(), 5u);
}

TEST_F(GenerateData, AnswersInstructions) {
    const std::string instructions = folder.write("a.json", R"([
        {"instruction": "say abc", "input": "xyz", "output": "old"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
                      {"role": "user", "content": "r"}, {"role": "assistant", "content": "old"}, {"role": "user", "content": "s"}]}])");
    ASSERT_EQ(run({instructions, "--instructions", "--temperature", "1"}).exit_code, 0);
    std::vector<json> all = lines();
    ASSERT_EQ(all.size(), 2u);
    ASSERT_EQ(all[0]["messages"].size(), 2u);
    EXPECT_EQ(all[0]["messages"][0]["content"], "say abc\nxyz");
    ASSERT_EQ(all[1]["messages"].size(), 4u) << all[1];
    EXPECT_EQ(all[1]["messages"][2]["content"], "r");
    EXPECT_EQ(all[1]["messages"][3]["role"], "assistant");
    EXPECT_NE(all[1]["messages"][3]["content"], "old");
    EXPECT_NO_THROW(parse_sft_example(all[1].dump()));
    std::filesystem::remove(out);
    ASSERT_EQ(run({instructions, "--instructions", "--plain"}).exit_code, 0);
    all = lines();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0][0][0], "say abc\nxyz\n");
}

TEST_F(GenerateData, AKilledRunGoesOnToTheSameResult) {
    const std::vector<std::string> command{corpus, "--prompt-tokens", "8", "--temperature", "1"};
    max_tokens = "40";
    std::string text;
    for (int i = 0; i < 60; i++) text += "bcd " + std::to_string(i) + " xyz aaab bbba and so on\n\n";
    folder.write("corpus.txt", text);
    ASSERT_EQ(run(command).exit_code, 0);
    const std::string whole = read_text_file(out);
    for (int lines_before : {1, 5}) {
        std::filesystem::remove(out);
        {
            RunningProgram program(arguments(command));
            auto written = [&] {
                std::ifstream file(out);
                return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
            };
            for (int i = 0; i < 3000 && written() < lines_before; i++) std::this_thread::sleep_for(std::chrono::milliseconds(5));
            program.kill(SIGKILL);
            program.wait();
        }
        if (!std::filesystem::exists(out + ".progress")) GTEST_SKIP() << "it was done before it could be killed";
        // As if the line behind the last note had been begun.
        std::ofstream(out, std::ios::app) << "[[\"half";
        const ProgramResult other = run({corpus, "--prompt-tokens", "7"});
        EXPECT_EQ(other.exit_code, 1);
        EXPECT_CONTAINS(other.err, "was begun with another model, other prompts or settings");
        const ProgramResult again = run(command);
        ASSERT_EQ(again.exit_code, 0) << again.err;
        EXPECT_CONTAINS(again.err, "were there");
        EXPECT_EQ(read_text_file(out), whole);
    }
}

TEST_F(GenerateData, SaysWhatIsWrong) {
    const std::pair<std::vector<std::string>, const char*> bad[] = {
        {{corpus, "--prompt-tokens", "1000"}, "there is no prompt: expected documents of more than 1000 tokens"},
        {{folder.write("a.jsonl", "{\"instruction\": 3}\n"), "--instructions"}, "a.jsonl:1: expected a string \"instruction\""},
        {{corpus, "--instructions"}, "examples are expected in .json"},
        {{folder / "none.txt"}, "no such file"},
    };
    for (const auto& [more, message] : bad) {
        const ProgramResult result = run(more);
        EXPECT_EQ(result.exit_code, 1);
        EXPECT_CONTAINS(result.err, message);
        EXPECT_FALSE(std::filesystem::exists(out));
    }
}

}  // namespace
}  // namespace vkqat::test

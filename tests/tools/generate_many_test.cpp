// vkqat generate --prompts: results of a file of prompts, and going on where a run was ended.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/support/scratch_folder.h"
#include "tests/tools/program.h"
#include "tests/tools/small_model.h"

namespace vkqat::test {
namespace {

using nlohmann::json;

class GenerateMany : public testing::Test {
protected:
    void SetUp() override { write_small_model(model); }
    void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
    ProgramResult run(const std::string& prompts, std::vector<std::string> more) {
        std::vector<std::string> args{"generate", model, "--prompts", prompts, "--out", out};
        args.insert(args.end(), more.begin(), more.end());
        return run_on_device(args);
    }
    std::vector<std::string> lines() const {
        std::ifstream file(out);
        std::vector<std::string> result;
        for (std::string line; std::getline(file, line);) result.push_back(line);
        return result;
    }
    std::map<int, json> results() const {
        std::map<int, json> map;
        for (const std::string& line : lines()) {
            json result = json::parse(line);
            EXPECT_TRUE(map.emplace(result["index"].get<int>(), result).second) << "twice: " << line;
        }
        return map;
    }
    ScratchFolder folder;
    std::string model = folder / "model", out = folder / "out.jsonl";
};

TEST_F(GenerateMany, EachPromptIsContinuedAsAlone) {
    write(folder / "prompts.txt", "abc\n\nxyz xyz\r\nq\n  \nno end of line");
    ProgramResult result =
        run(folder / "prompts.txt", {"--batch", "3", "--temperature", "1", "--seed", "7", "--max-tokens", "9", "--ignore-end"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_CONTAINS(result.err, "4 texts, 36 tokens");
    auto all = results();
    ASSERT_EQ(all.size(), 4u);
    const std::vector<std::string> prompts{"abc", "xyz xyz", "q", "no end of line"};
    for (int i = 0; i < 4; i++) {
        EXPECT_EQ(all[i]["prompt"], prompts[size_t(i)]);
        EXPECT_EQ(all[i]["stop"], "max_tokens");
        ProgramResult alone = run_on_device({"generate", model, "--prompt", prompts[size_t(i)], "--temperature", "1", "--seed",
                                             std::to_string(7 + i), "--json", "--max-tokens", "9", "--ignore-end"});
        ASSERT_EQ(alone.exit_code, 0) << alone.err;
        json expected = json::parse(alone.out);
        EXPECT_EQ(all[i]["prompt_ids"], expected["prompt_ids"]);
        if (expected["device"].get<std::string>().find("llvmpipe") !=
            std::string::npos) {  // elsewhere other kernels may sum otherwise
            EXPECT_EQ(all[i]["ids"], expected["ids"]) << i;
            EXPECT_EQ(all[i]["text"], expected["text"]) << i;
        }
    }
}

TEST_F(GenerateMany, GoesOnWhereARunWasEnded) {
    write(
        folder / "prompts.jsonl",
        "{\"prompt\": \"abc\"}\n{\"ids\": [5, 6, 7], \"max_tokens\": 3}\n{\"prompt\": \"abd\", \"seed\": 12}\n{\"ids\": [9]}\n");
    const std::vector<std::string> options{"--batch",      "2", "--temperature", "1", "--seed", "3",
                                           "--max-tokens", "6", "--ignore-end"};
    ASSERT_EQ(run(folder / "prompts.jsonl", options).exit_code, 0);
    auto whole = results();
    ASSERT_EQ(whole.size(), 4u);
    EXPECT_EQ(whole[1]["ids"].size(), 3u);
    EXPECT_EQ(whole[1]["prompt_ids"], json::parse("[5, 6, 7]"));
    EXPECT_FALSE(whole[1].contains("prompt"));
    EXPECT_EQ(whole[2]["seed"], 12);
    EXPECT_EQ(whole[3]["seed"], 6);
    // Two results and a piece of a third.
    write(out, whole[1].dump() + "\n" + whole[0].dump() + "\n" + whole[3].dump().substr(0, 30));
    ProgramResult again = run(folder / "prompts.jsonl", options);
    ASSERT_EQ(again.exit_code, 0) << again.err;
    EXPECT_CONTAINS(again.err, "2 were there");
    auto resumed = results();
    ASSERT_EQ(resumed.size(), 4u);
    for (int i = 0; i < 4; i++) EXPECT_EQ(resumed[i]["ids"], whole[i]["ids"]) << i;
    const auto before = lines();
    ProgramResult nothing = run(folder / "prompts.jsonl", options);
    EXPECT_EQ(nothing.exit_code, 0);
    EXPECT_CONTAINS(nothing.err, "all 4 prompts already");
    EXPECT_EQ(lines(), before);
}

TEST_F(GenerateMany, WhatCannotBeDoneNamesTheLine) {
    auto expect_failure = [&](const std::string& name, const std::string& text, const char* message) {
        write(folder / name, text);
        ProgramResult result = run(folder / name, {"--greedy"});
        EXPECT_EQ(result.exit_code, 1) << name;
        EXPECT_CONTAINS(result.err, message);
        EXPECT_FALSE(std::filesystem::exists(out));
    };
    expect_failure("a.txt", "\n\n", "has no prompts");
    expect_failure("b.txt", "good\n\xff\xfe\n", "line 2: is not UTF-8");
    expect_failure("c.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": 1}\n", "line 2: expected either");
    expect_failure("d.jsonl", "{\"ids\": [1, 300]}\n", "line 1: id 300 is outside");
    expect_failure("e.jsonl", "{\"prompt\": \"a\"\n", "line 1");
    expect_failure("f.jsonl", "{\"prompt\": \"a\", \"max_tokens\": 0}\n", "\"max_tokens\" must be");
    std::string many = "{\"ids\": [1";
    for (int i = 1; i < 64; i++) many += ",1";
    expect_failure("g.jsonl", many + "]}\n", "line 1: the prompt has 64 tokens");
    write(folder / "h.txt", "abc\n");
    write(out, "{\"index\": 0, \"prompt_ids\": [1, 2]}\n");
    ProgramResult foreign = run(folder / "h.txt", {});
    EXPECT_EQ(foreign.exit_code, 1);
    EXPECT_CONTAINS(foreign.err, "is not a result of these prompts");
    for (std::vector<std::string> args : {std::vector<std::string>{"--prompts", folder / "h.txt"},
                                          {"--prompts", folder / "h.txt", "--out", out, "--prompt", "x"},
                                          {"--prompt", "x", "--out", out}}) {
        args.insert(args.begin(), {"generate", model});
        EXPECT_EQ(run_program(args).exit_code, 2);
    }
}

}  // namespace
}  // namespace vkqat::test

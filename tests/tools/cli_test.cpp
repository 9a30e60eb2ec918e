// The program's arguments, messages and exit codes; nothing here needs a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/scratch_folder.h"
#include "tests/tools/program.h"
#include "tests/tools/small_model.h"

namespace vkqat::test {
namespace {

using Arguments = std::vector<std::string>;

// Exit code as said, nothing on stdout, and one line on stderr that holds `part`.
void expect_failure(int exit_code, const Arguments& arguments, const std::string& part) {
    SCOPED_TRACE(testing::PrintToString(arguments));
    ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(result.err.starts_with("vkqat: ")) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_CONTAINS(result.err, part);
}

std::string read_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

TEST(Cli, HelpOfEverySubcommandHasUsageAndExamples) {
    ProgramResult all = run_program({"--help"});
    EXPECT_EQ(all.exit_code, 0);
    for (const char* name :
         {"devices", "sample-corpus", "tokenizer", "train", "export", "inspect", "eval", "generate", "chat", "logits"}) {
        EXPECT_CONTAINS(all.out, std::string("  ") + name + " ");
        ProgramResult help = run_program({name, "--help"});
        EXPECT_EQ(help.exit_code, 0) << name;
        EXPECT_CONTAINS(help.out, std::string("Usage: vkqat ") + name);
        EXPECT_CONTAINS(help.out, "Example");
        EXPECT_EQ(help.err, "");
    }
    for (const char* name : {"encode", "decode", "info", "train"}) {
        ProgramResult help = run_program({"tokenizer", name, "--help"});
        EXPECT_EQ(help.exit_code, 0) << name;
        EXPECT_CONTAINS(help.out, std::string("Usage: vkqat tokenizer ") + name);
        EXPECT_CONTAINS(help.out, "Example");
    }
}

TEST(Cli, VersionIsPrinted) {
    ProgramResult result = run_program({"--version"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_TRUE(result.out.starts_with("vkqat ")) << result.out;
}

TEST(Cli, WrongUsageEndsWithTwo) {
    ScratchFolder folder;
    write_small_model(folder / "model");
    std::string model = folder / "model";
    expect_failure(2, {}, "a subcommand is missing");
    expect_failure(2, {"evaluate"}, "there is no subcommand 'evaluate'");
    expect_failure(2, {"--fast"}, "there is no option --fast");
    expect_failure(2, {"devices", "--fast"}, "there is no option --fast");
    expect_failure(2, {"inspect"}, "MODEL is required (see `vkqat inspect --help`)");
    expect_failure(2, {"inspect", "a", "b"}, "'b' is one argument too many");
    expect_failure(2, {"tokenizer", "merge"}, "there is no subcommand 'merge' (see `vkqat tokenizer --help`)");
    expect_failure(2, {"eval", "a"}, "one of --perplexity and --tasks");
    expect_failure(2, {"eval", "a", "--perplexity", "b", "--documents", "4:1"}, "expected FIRST:LAST");
    expect_failure(2, {"eval", "a", "--perplexity", "b", "--documents", "1:2:3"}, "expected FIRST:LAST");
    expect_failure(2, {"eval", "a", "--perplexity", "b", "--context", "1"}, "--context: expected a whole number from 2");
    expect_failure(2, {"generate", model}, "one of --prompt and --ids is needed");
    expect_failure(2, {"generate", model, "--prompt", "a", "--ids", "1"}, "exclude each other");
    expect_failure(2, {"generate", model, "--ids", "1,two"}, "'two' is no token id");
    expect_failure(2, {"generate", model, "--ids", "1,-2"}, "'-2' is no token id");
    expect_failure(2, {"generate", model, "--ids", ","}, "list of ids is empty");
    expect_failure(2, {"generate", model, "--ids", "99999999999"}, "is no token id");
    expect_failure(2, {"generate", model, "--ids", "1", "--temperature", "-1"}, "temperature is -1");
    expect_failure(2, {"generate", model, "--ids", "1", "--top-p", "nan"}, "top_p");
    expect_failure(2, {"generate", model, "--ids", "1", "--top-k", "-5"}, "--top-k -5");
    expect_failure(2, {"generate", model, "--ids", "1", "--max-tokens", "0"}, "--max-tokens: expected a whole number from 1");
    expect_failure(2, {"generate", model, "--ids", "1", "--seed", "x"}, "--seed");
}

TEST(Cli, WhatIsNoModelIsNamed) {
    ScratchFolder folder;
    std::filesystem::create_directories(folder / "empty");
    std::filesystem::create_directories(folder / "run");
    folder.write("run/metrics.jsonl", "");
    folder.write("file", "");
    for (const char* command : {"inspect", "generate", "logits", "chat"}) {
        Arguments more =
            std::string(command) == "inspect" || std::string(command) == "chat" ? Arguments{} : Arguments{"--ids", "1"};
        auto with = [&](const char* name) {
            Arguments arguments{command, folder / name};
            arguments.insert(arguments.end(), more.begin(), more.end());
            return arguments;
        };
        expect_failure(1, with("nothing"), "there is no such model directory");
        expect_failure(1, with("file"), "is a file");
        expect_failure(1, with("empty"), "it has no config.json");
        expect_failure(1, with("run"), "vkqat export");
    }
    expect_failure(1, {"eval", folder / "empty", "--perplexity", folder / "file"}, "it has no config.json");
    expect_failure(1, {"eval", folder / "empty", "--perplexity", folder / "nothing"}, "there is no such file");
    expect_failure(1, {"tokenizer", "info", folder / "nothing"}, "there is no such file or directory");
    expect_failure(1, {"tokenizer", "encode", folder / "empty", "a"}, "no tokenizer");
}

TEST(Cli, DamagedModelsAreRefused) {
    ScratchFolder folder;
    std::filesystem::path model = folder / "model", weights = model / "model.safetensors";
    write_small_model(model);
    std::string whole = read_file(weights), config = read_file(model / "config.json");
    ASSERT_GT(whole.size(), 10000u);
    for (size_t size : {size_t(0), size_t(5), size_t(100), whole.size() / 2, whole.size() - 1}) {
        folder.write("model/model.safetensors", whole.substr(0, size));
        expect_failure(1, {"inspect", model}, "model.safetensors");
    }
    folder.write("model/model.safetensors", whole);
    size_t at = config.find("\"intermediate_size\": 48");
    ASSERT_NE(at, config.npos);
    folder.write("model/config.json", std::string(config).replace(at, 23, "\"intermediate_size\": 47"));
    expect_failure(1, {"inspect", model}, "mlp.gate_proj.weight");
    folder.write("model/config.json", config.substr(0, config.size() / 2));
    expect_failure(1, {"inspect", model}, "config.json");
}

TEST(Cli, TokenizerThatHasMoreTokensThanTheModelIsRefused) {
    ScratchFolder folder;
    write_small_model(folder / "large");
    write_small_model(folder / "small", 280, false);
    std::filesystem::copy_file(folder / "large" / "tokenizer.json", folder / "small" / "tokenizer.json");
    expect_failure(1, {"inspect", folder / "small"}, "tokenizer and model do not belong together");
    expect_failure(1, {"generate", folder / "small", "--prompt", "a"},
                   "the tokenizer has 300 tokens, the model's vocabulary 280");
}

TEST(Cli, IdsOutsideOfTheVocabularyAreRefused) {
    ScratchFolder folder;
    write_small_model(folder / "model", 300, false);
    expect_failure(1, {"logits", folder / "model", "--ids", "1,300"}, "the id 300 is outside of the model's vocabulary of 300");
    expect_failure(1, {"generate", folder / "model", "--ids", "1", "--max-tokens", "2"}, "has no tokenizer");
    expect_failure(1, {"logits", folder / "model", "--prompt", "a"}, "has no tokenizer");
}

TEST(Cli, ExistingOutputIsLeftAlone) {
    ScratchFolder folder;
    ProgramResult first = run_program({"sample-corpus", folder / "corpus", "--bytes", "20000"});
    ASSERT_EQ(first.exit_code, 0) << first.err;
    std::string train = folder / "corpus" / "train.txt", before = read_file(train);
    EXPECT_NEAR(double(before.size() + read_file(folder / "corpus" / "valid.txt").size()), 20000, 2000);
    expect_failure(1, {"sample-corpus", folder / "corpus", "--seed", "2"}, "exists");
    EXPECT_EQ(read_file(train), before);

    expect_failure(1, {"tokenizer", "train", train, "--out", folder / "corpus"}, "exists");
    expect_failure(1, {"tokenizer", "train", folder / "nothing.txt", "--out", folder / "tokenizer"}, "nothing.txt");
    folder.write("empty.txt", "\n\n");
    expect_failure(1, {"tokenizer", "train", folder / "empty.txt", "--out", folder / "tokenizer"}, "no text");
    EXPECT_FALSE(std::filesystem::exists(folder / "tokenizer"));
}

TEST(Cli, TokenizerIsTrainedAndUsed) {
    ScratchFolder folder;
    ASSERT_EQ(run_program({"sample-corpus", folder / "corpus", "--bytes", "20000"}).exit_code, 0);
    std::string tokenizer = folder / "tokenizer";
    ProgramResult trained = run_program(
        {"tokenizer", "train", folder / "corpus" / "train.txt", "--vocab-size", "400", "--out", tokenizer, "--chat-template"});
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    auto info = nlohmann::json::parse(run_program({"tokenizer", "info", tokenizer, "--json"}).out);
    EXPECT_EQ(info["vocab_size"], 400);
    EXPECT_EQ(info["special"][info["start"].dump()], "<|begin_of_text|>");
    EXPECT_CONTAINS(read_file(folder / "tokenizer" / "tokenizer_config.json"), "<|start_header_id|>");

    const std::string text = "Once upon a time, the dog asked: caf\u00e9 \u4e16\u754c?";
    auto encoded = nlohmann::json::parse(run_program({"tokenizer", "encode", tokenizer, text, "--json"}).out);
    EXPECT_EQ(encoded["ids"][0], info["start"]);
    EXPECT_LT(encoded["ids"].size(), text.size());
    ProgramResult ids = run_program({"tokenizer", "encode", tokenizer}, text);
    EXPECT_EQ(nlohmann::json::parse("[" + ids.out + "]"), encoded["ids"]);
    ids.out.pop_back();
    EXPECT_EQ(run_program({"tokenizer", "decode", tokenizer, ids.out}).out, text + "\n");
    expect_failure(1, {"tokenizer", "decode", tokenizer, "1,400"}, "400");
}

TEST(Cli, InspectCountsWeightsAndBytes) {
    ScratchFolder folder;
    write_small_model(folder / "model");
    ProgramResult result = run_program({"inspect", folder / "model", "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    auto json = nlohmann::json::parse(result.out);
    const int linear = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48), norms = 5 * 32, table = 300 * 32;
    EXPECT_EQ(json["parameters"], linear + norms + 2 * table);
    EXPECT_EQ(json["bytes"], 4 * (linear + norms + 2 * table));
    EXPECT_EQ(json["linear_bits_per_weight"], 32.0);
    EXPECT_EQ(json["parts"]["head"]["bytes"], 4 * table);
    EXPECT_EQ(json["parts"]["mlp"]["weights"], 2 * 3 * 32 * 48);
    EXPECT_EQ(json["parts"]["other"]["bytes"], 0);
    EXPECT_EQ(json["tokenizer"]["vocab_size"], 300);
    ProgramResult text = run_program({"inspect", folder / "model"});
    EXPECT_EQ(text.exit_code, 0);
    EXPECT_CONTAINS(text.out, "32.000 bits per weight");
}

}  // namespace
}  // namespace vkqat::test

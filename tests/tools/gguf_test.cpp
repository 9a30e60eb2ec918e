// stories260K as GGUF files: the subcommands take them as they take a model directory.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/reference.h"
#include "tests/support/scratch_folder.h"
#include "tests/tools/program.h"

namespace vkqat::test {
namespace {

using nlohmann::json;

struct Case {
    const char* file;
    double nll_tolerance;  // to the fp32 model's nats per token
};

class ReferenceGgufCli : public testing::TestWithParam<Case> {
protected:
    void SetUp() override {
        std::filesystem::path data = data_folder();
        model = data / "stories260K" / GetParam().file;
        if (data.empty() || !std::filesystem::exists(model)) GTEST_SKIP() << "no folder of data (VKQAT_DATA)";
        stories = data / "text" / "tinystoriesV2_train_first10klines.txt";
        std::ifstream file(data / "stories260K" / "expected.json");
        expected = json::parse(file);
    }
    json run(std::vector<std::string> arguments) {
        ProgramResult result = run_on_device(std::move(arguments));
        EXPECT_EQ(result.exit_code, 0) << result.err;
        EXPECT_EQ(result.err.find("validation:"), std::string::npos) << result.err;
        return json::parse(result.out, nullptr, false);
    }
    std::string model, stories;
    json expected;
};

// That q8_0's text is the same, too, is what was found: its rounding moves no logit far enough in these 64 tokens.
TEST_P(ReferenceGgufCli, GreedyTextIsTheKnownOne) {
    json result = run({"generate", model, "--prompt", expected["prompt"], "--greedy", "--max-tokens", "64", "--json"});
    EXPECT_EQ(result["prompt_ids"], expected["prompt_ids"]);
    EXPECT_EQ(result["ids"], expected["greedy64_ids"]);
    EXPECT_EQ(" " + expected["prompt"].get<std::string>() + result["text"].get<std::string>(), expected["greedy_text"]);
}

TEST_P(ReferenceGgufCli, PerplexityIsTheKnownOne) {
    json score = run({"eval", model, "--perplexity", stories, "--document-separator", "<|endoftext|>", "--documents", "1:40",
                      "--context", "512", "--json"});
    EXPECT_EQ(score["tokens"], expected["tinystories_tokens"]);
    EXPECT_NEAR(score["mean_nll"], expected["tinystories_nll"], GetParam().nll_tolerance);
    EXPECT_EQ(score["linear_bits_per_weight"], 16);  // on the device
}

TEST_P(ReferenceGgufCli, InspectShowsWhatTheFileHolds) {
    json result = run({"inspect", model, "--json"});
    EXPECT_EQ(result["architecture"]["head_dim"], 8);
    EXPECT_EQ(result["architecture"]["tie_word_embeddings"], true);
    EXPECT_EQ(result["parameters"], 260032);
    EXPECT_EQ(result["files"], 1);
    EXPECT_EQ(result["tokenizer"]["vocab_size"], 512);
    bool q8_0 = model.find("q8_0") != model.npos;
    EXPECT_EQ(result["linear_formats"], q8_0 ? (json{{"q8_0", 30}, {"f16", 5}}) : (json{{"f16", 35}}));
    EXPECT_LT(result["bytes"], std::filesystem::file_size(model));
    EXPECT_GT(result["bytes"], std::filesystem::file_size(model) * 9 / 10);
}

TEST_P(ReferenceGgufCli, ChatAnswers) {
    ProgramResult result = run_on_device({"chat", model, "--greedy", "--max-tokens", "8"}, "Hello.\n");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_GT(result.out.size(), 8u);
}

// The known mean is of fp32 weights. f16 errs by 2^-11 of a weight, q8_0 by 1/254 of a block's largest.
INSTANTIATE_TEST_SUITE_P(All, ReferenceGgufCli,
                         testing::Values(Case{"stories260K-f16.gguf", 1e-4}, Case{"stories260K-q8_0.gguf", 2e-3}),
                         [](const testing::TestParamInfo<Case>& c) {
                             return std::string(c.param.file).find("q8_0") == std::string::npos ? std::string("F16")
                                                                                                : std::string("Q8_0");
                         });

TEST(GgufCli, DamagedFilesAreErrorsThatNameThem) {
    ScratchFolder folder;
    for (const char* content : {"", "GGUF", "no GGUF at all, but long enough to be looked at"}) {
        std::string path = folder / "a.gguf";
        std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
        for (const std::vector<std::string>& arguments : {std::vector<std::string>{"inspect", path},
                                                          {"chat", path},
                                                          {"generate", path, "--ids", "1"},
                                                          {"tokenizer", "info", path}}) {
            ProgramResult result = run_program(arguments);
            EXPECT_EQ(result.exit_code, 1) << result.err;
            EXPECT_NE(result.err.find("a.gguf"), std::string::npos) << result.err;
        }
    }
    EXPECT_EQ(run_program({"inspect", folder / "absent.gguf"}).exit_code, 1);
}

}  // namespace
}  // namespace vkqat::test

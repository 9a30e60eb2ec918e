// The subcommands that use a device, on a small model with random weights and, where it is there, on stories260K.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/reference.h"
#include "tests/support/scratch_folder.h"
#include "tests/tools/program.h"
#include "tests/tools/small_model.h"

namespace vkqat::test {
namespace {

using nlohmann::json;

void expect_success(const ProgramResult& result) {
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err.find("validation:"), std::string::npos) << result.err;
}

json ids_of(const ProgramResult& result) { return json::parse("[" + result.out + "]"); }

class CliOnDevice : public testing::Test {
protected:
    void SetUp() override { write_small_model(model); }
    ScratchFolder folder;
    std::string model = folder / "model";
};

TEST_F(CliOnDevice, DevicesAreListed) {
    ProgramResult result = run_program({"devices", "--json"});
    expect_success(result);
    json devices = json::parse(result.out)["devices"];
    ASSERT_GE(devices.size(), 1u);
    EXPECT_EQ(devices[0]["default"], true);
    EXPECT_GT(devices[0]["memory_bytes"], 1000000);
    ProgramResult text = run_program({"devices"});
    expect_success(text);
    EXPECT_CONTAINS(text.out, devices[0]["name"].get<std::string>());
}

TEST_F(CliOnDevice, DeviceThatIsNotThereIsAnError) {
    for (const char* device : {"999", "no such device"}) {
        ProgramResult result = run_program({"generate", model, "--ids", "1", "--print-ids", "--device", device});
        EXPECT_EQ(result.exit_code, 1);
        EXPECT_EQ(result.out, "");
        EXPECT_CONTAINS(result.err, std::string("no device '") + device + "'");
    }
}

TEST_F(CliOnDevice, BenchWritesAModelAndLoadsIt) {
    const std::string written_to = folder / "random", speed = folder / "speed.json";
    ProgramResult written = run_on_device(
        {"bench", "load", "--flavor", "debugmodel", "--bits", "3", "--vocabulary", "300", "--write", written_to, "--json"});
    ASSERT_EQ(written.exit_code, 0) << written.err;
    const auto row = nlohmann::json::parse(written.out)["rows"][0];
    EXPECT_GT(row["peak_resident_bytes"], 0);
    EXPECT_GT(row["model_bytes"], 2 * 300 * 256 * 2);  // embedding and head
    ProgramResult again =
        run_program({"bench", "load", "--flavor", "debugmodel", "--vocabulary", "300", "--write", written_to, "--json"});
    EXPECT_EQ(again.exit_code, 1);
    EXPECT_CONTAINS(again.err, "exists");
    ProgramResult decode = run_on_device({"bench", "decode", "--model", written_to, "--cached", "0", "70", "--json"});
    ASSERT_EQ(decode.exit_code, 0) << decode.err;
    std::ofstream(speed) << decode.out;
    const std::string picture = folder / "length.svg";
    ProgramResult plot = run_program({"plot", "length", speed, "--out", picture});
    ASSERT_EQ(plot.exit_code, 0) << plot.err;
    std::stringstream svg;
    svg << std::ifstream(picture).rdbuf();
    EXPECT_CONTAINS(svg.str(), "f16 cache");
    EXPECT_CONTAINS(svg.str(), "positions in the cache");
}

TEST_F(CliOnDevice, GreedyIdsAreTheLargestLogits) {
    ProgramResult generated =
        run_on_device({"generate", model, "--ids", "7,8,9", "--greedy", "--print-ids", "--max-tokens", "3", "--ignore-end"});
    expect_success(generated);
    json ids = ids_of(generated);
    ASSERT_EQ(ids.size(), 3u);
    std::string prompt = "7,8,9";
    for (const json& id : ids) {
        ProgramResult result = run_on_device({"logits", model, "--ids", prompt, "--json"});
        expect_success(result);
        std::vector<float> logits = json::parse(result.out)["logits"];
        ASSERT_EQ(logits.size(), 300u);
        EXPECT_EQ(id, std::max_element(logits.begin(), logits.end()) - logits.begin());
        prompt += "," + id.dump();
    }
    ProgramResult best = run_on_device({"logits", model, "--ids", "7,8,9", "--best", "1"});
    expect_success(best);
    EXPECT_CONTAINS(best.out, ids[0].dump() + " ");
}

TEST_F(CliOnDevice, SameSeedSameText) {
    auto with_seed = [&](const char* seed) {
        ProgramResult result = run_on_device({"generate", model, "--prompt", "abc", "--temperature", "1", "--seed", seed,
                                              "--json", "--max-tokens", "20", "--ignore-end"});
        EXPECT_EQ(result.exit_code, 0) << result.err;
        return json::parse(result.out);
    };
    json first = with_seed("1"), again = with_seed("1"), other = with_seed("2");
    EXPECT_EQ(first["ids"].size(), 20u);
    EXPECT_EQ(first["ids"], again["ids"]);
    EXPECT_EQ(first["text"], again["text"]);
    EXPECT_NE(first["ids"], other["ids"]);  // 20 draws of 300 nearly equal tokens
}

TEST_F(CliOnDevice, GenerateEndsWhereTheContextIsFull) {
    ProgramResult result = run_on_device({"generate", model, "--ids", "5,6", "--greedy", "--json", "--ignore-end"});
    expect_success(result);
    json generated = json::parse(result.out);
    EXPECT_EQ(generated["stop"], "context");
    EXPECT_GE(generated["ids"].size(), 62u);  // of 64 positions
    EXPECT_LE(generated["ids"].size(), 63u);
    std::string full = "1";
    for (int i = 1; i < 64; i++) full += ",1";
    ProgramResult too_long = run_on_device({"generate", model, "--ids", full, "--print-ids"});
    EXPECT_EQ(too_long.exit_code, 1);
    EXPECT_CONTAINS(too_long.err, "the prompt has 64 tokens");
}

TEST_F(CliOnDevice, EvalJoinsOrKeepsDocumentsApart) {
    std::string file = folder.write("text.txt", "abc def ghi\n\njkl mno pqr stu\n\nvwx yz");
    auto eval = [&](std::vector<std::string> more) {
        std::vector<std::string> arguments{"eval", model, "--perplexity", file, "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        ProgramResult result = run_on_device(arguments);
        EXPECT_EQ(result.exit_code, 0) << result.err;
        return json::parse(result.out);
    };
    json joined = eval({}), windows = eval({"--context", "8"}), second = eval({"--documents", "1:1"}),
         all = eval({"--documents", "0:2"});
    EXPECT_EQ(joined["windows"], 1);
    EXPECT_GT(windows["windows"], 3);
    EXPECT_EQ(second["windows"], 1);
    EXPECT_EQ(all["windows"], 3);
    EXPECT_EQ(eval({"--document-separator", "\n\n"})["mean_nll"], all["mean_nll"]);
    // One batch or many: the same tokens, summed in another order.
    EXPECT_NEAR(eval({"--context", "8", "--batch", "1"})["mean_nll"], windows["mean_nll"], 1e-5);
    // All 36 bytes are predicted, each token once, from at least 5 others.
    json strided = eval({"--context", "8", "--stride", "3"});
    EXPECT_EQ(strided["tokens"], joined["tokens"]);
    EXPECT_NEAR(joined["bits_per_byte"].get<double>(),
                joined["mean_nll"].get<double>() * joined["tokens"].get<double>() / 36 / std::log(2), 1e-9);
    double nll = joined["mean_nll"];
    EXPECT_NEAR(nll, std::log(300), 1.5);  // random weights know nothing
    EXPECT_NEAR(joined["perplexity"].get<double>(), std::exp(nll), 1e-9 * std::exp(nll));

    ProgramResult two = run_on_device({"eval", model, model + "/", "--perplexity", file});
    expect_success(two);
    EXPECT_CONTAINS(two.out, "+0.0 %");
    ProgramResult none = run_on_device({"eval", model, "--perplexity", file, "--documents", "3:9"});
    EXPECT_EQ(none.exit_code, 1);
    EXPECT_CONTAINS(none.err, "nothing to predict");
}

TEST_F(CliOnDevice, EvalOfTasksGoesOnAndNamesBrokenFiles) {
    std::string rows;
    for (int i = 0; i < 6; i++)
        rows += "{\"goal\":\"abc " + std::to_string(i) +
                "\",\"sol1\":\"def\",\"sol2\":\"gh ij\",\"label\":" + std::to_string(i % 2) + "}\n";
    std::string piqa = folder.write("piqa.jsonl", rows), boolq = folder.write("boolq.jsonl", "{\"passage\":\"a\"}\n"),
                lambada = folder.write("lambada.jsonl", "{\"text\":\"abc def ghi\"}\n"), saved = folder / "scores";
    auto eval = [&](std::vector<std::string> more) {
        std::vector<std::string> arguments{"eval", model, "--json", "--tasks", piqa, boolq, "--tasks", lambada};
        arguments.insert(arguments.end(), more.begin(), more.end());
        ProgramResult result = run_on_device(arguments);
        EXPECT_EQ(result.exit_code, 1);  // boolq is broken
        EXPECT_CONTAINS(result.err, "boolq.jsonl: row 1: boolq: there is no \"");
        return json::parse(result.out);
    };
    json whole = eval({"--save", saved});
    json tasks = whole["models"][0]["tasks"];
    ASSERT_EQ(tasks.size(), 2u);
    EXPECT_EQ(tasks[0]["questions"], 6);
    EXPECT_GT(tasks[0]["computed_tokens"], 0);
    EXPECT_EQ(whole["models"][0]["model_digest"].get<std::string>().size(), 16u);
    EXPECT_GT(tasks[1]["metrics"]["perplexity"], 1);

    // As if it had been stopped behind three questions: only the others are computed, and the result is the same.
    std::filesystem::path file;
    for (auto& entry : std::filesystem::recursive_directory_iterator(saved))
        if (entry.path().filename() == "piqa.jsonl") file = entry.path();
    std::ifstream in(file);
    std::string line, kept;
    for (int i = 0; i < 4 && std::getline(in, line); i++) kept += line + "\n";
    in.close();
    std::ofstream(file, std::ios::trunc) << kept << line.substr(0, 9);
    json again = eval({"--save", saved})["models"][0]["tasks"];
    EXPECT_EQ(again[0]["metrics"], tasks[0]["metrics"]);
    EXPECT_GT(again[0]["computed_tokens"], 0);
    EXPECT_LT(again[0]["computed_tokens"], tasks[0]["computed_tokens"]);
    EXPECT_EQ(again[1]["computed_tokens"], 0);
    EXPECT_EQ(eval({"--limit", "2"})["models"][0]["tasks"][0]["questions"], 2);
}

TEST_F(CliOnDevice, EvalOfWrittenAnswers) {
    folder.write("sums.jsonl", "{\"question\":\"abc\",\"answer\":\"5\"}\n{\"question\":\"def\",\"answer\":\"6\"}\n");
    std::string task =
        folder.write("sums.toml",
                     "name = \"sums\"\ndata = \"sums.jsonl\"\nscoring = \"generation\"\nprompt = \"{{question}}\"\n"
                     "target = \"{{answer}}\"\nmax_tokens = 8\nuntil = [\"x\"]\nanswer_pattern = \"[0-9]+\"\n");
    std::string saved = folder / "scores";
    ProgramResult result = run_on_device({"eval", model, "--json", "--tasks", task, "--save", saved});
    expect_success(result);
    json one = json::parse(result.out)["models"][0]["tasks"][0];
    EXPECT_EQ(one["questions"], 2);
    EXPECT_LE(one["generated_tokens"], 16);
    EXPECT_TRUE(one["metrics"].contains("exact_match"));
    ProgramResult again = run_on_device({"eval", model, "--json", "--tasks", task, "--save", saved});
    expect_success(again);
    EXPECT_EQ(json::parse(again.out)["models"][0]["tasks"][0]["generated_tokens"], 0);
}

TEST_F(CliOnDevice, SamplingIsTheModelsUnlessItIsGiven) {
    std::ofstream(model + "/generation_config.json")
        << R"({"eos_token_id": 1, "temperature": 0.5, "top_k": 7, "min_p": 0.02, "repetition_penalty": 1.25})";
    auto sampling = [&](std::vector<std::string> more) {
        more.insert(more.begin(), {"generate", model, "--ids", "5", "--json", "--max-tokens", "2", "--seed", "3"});
        const ProgramResult result = run_on_device(more);
        expect_success(result);
        return json::parse(result.out)["sampling"].get<std::string>();
    };
    EXPECT_EQ(sampling({}), "temperature 0.5, top-k 7, min-p 0.02, seed 3, repetition penalty 1.25");
    EXPECT_EQ(sampling({"--min-p", "0.1", "--repetition-penalty", "1"}), "temperature 0.5, top-k 7, min-p 0.1, seed 3");
}

TEST_F(CliOnDevice, ChatSavesAndForgets) {
    std::string saved = folder / "chat.json";
    std::string input =
        "/help\nabc\n/save " + saved + "\n/dance\ndef\nghi\n" + std::string(200, '#') + "\n/reset\n/save\n/exit\nnot read\n";
    ProgramResult result = run_on_device({"chat", model, "--system", "hi", "--greedy", "--max-tokens", "4"}, input);
    expect_success(result);
    EXPECT_CONTAINS(result.err, "/save FILE");
    EXPECT_CONTAINS(result.err, "there is no /dance");
    EXPECT_CONTAINS(result.err, "turn is forgotten");   // 64 tokens do not hold three turns
    EXPECT_CONTAINS(result.err, "send a shorter one");  // nor one of 200 bytes
    EXPECT_CONTAINS(result.err, "a new conversation");
    std::ifstream file(saved);
    json conversation = json::parse(file);
    ASSERT_EQ(conversation["messages"].size(), 3u);
    EXPECT_EQ(conversation["messages"][0]["content"], "hi");
    EXPECT_EQ(conversation["messages"][1]["content"], "abc");
    EXPECT_EQ(conversation["messages"][2]["role"], "assistant");
    EXPECT_CONTAINS(result.out, conversation["messages"][2]["content"].get<std::string>());
}

class ReferenceCli : public testing::Test {
protected:
    void SetUp() override {
        std::filesystem::path data = data_folder();
        if (data.empty()) GTEST_SKIP() << "no folder of data (VKQAT_DATA)";
        model = data / "stories260K";
        stories = data / "text" / "tinystoriesV2_train_first10klines.txt";
        std::ifstream file(data / "stories260K" / "expected.json");
        expected = json::parse(file);
        for (const json& id : expected["prompt_ids"]) prompt_ids += (prompt_ids.empty() ? "" : ",") + id.dump();
    }
    std::string model, stories, prompt_ids;
    json expected;
};

TEST_F(ReferenceCli, PerplexityOfStories260K) {
    ProgramResult result = run_on_device({"eval", model, "--perplexity", stories, "--document-separator", "<|endoftext|>",
                                          "--documents", "1:40", "--context", "512", "--json"});
    expect_success(result);
    json score = json::parse(result.out);
    EXPECT_EQ(score["tokens"], expected["tinystories_tokens"]);
    EXPECT_NEAR(score["mean_nll"], expected["tinystories_nll"], 1e-4);
}

TEST_F(ReferenceCli, GreedyTextOfStories260K) {
    ProgramResult result =
        run_on_device({"generate", model, "--ids", prompt_ids, "--greedy", "--print-ids", "--max-tokens", "64"});
    expect_success(result);
    EXPECT_EQ(ids_of(result), expected["greedy64_ids"]);
    ProgramResult text = run_on_device({"generate", model, "--prompt", expected["prompt"], "--greedy", "--max-tokens", "64"});
    expect_success(text);
    std::string wanted = expected["greedy_text"];  // begins with SentencePiece's space, which decoding removes
    EXPECT_EQ(text.out, wanted.substr(1) + "\n");
}

TEST_F(ReferenceCli, LastLogitsOfStories260K) {
    ProgramResult result = run_on_device({"logits", model, "--ids", prompt_ids, "--json"});
    expect_success(result);
    std::vector<float> logits = json::parse(result.out)["logits"], wanted = expected["last_logits"];
    ASSERT_EQ(logits.size(), wanted.size());
    // fp32 against float64: 1e-5 of the largest logits, which are near 20, and the file's six decimals
    for (size_t i = 0; i < logits.size(); i++) EXPECT_NEAR(logits[i], wanted[i], 2e-4) << i;
}

}  // namespace
}  // namespace vkqat::test

// vkqat profile sweep, with the built program.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/support/files.h"
#include "tests/tools/program.h"
#include "tests/trainer/tiny_run.h"

namespace vkqat::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Two trained models and a task file that is broken beside one that is not.
std::vector<std::string> sweep_arguments(const ScratchFolder& folder) {
    TrainConfig config = tiny_config(folder.path());
    config.training.steps = 40;
    config.checkpoint.interval = 5;
    config.quantization = {.block_dim_2 = 16};
    config.job = {};
    const std::string train = folder.write("train.toml", to_toml(config)).string();
    const std::string text = folder.write("valid.txt", "abc def ghi jkl mno pqr stu vwx yz\n\nabc abc").string();
    const std::string good = folder
                                 .write("piqa.jsonl",
                                        "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 0}\n"
                                        "{\"goal\": \"d\", \"sol1\": \"e\", \"sol2\": \"f\", \"label\": 1}\n")
                                 .string();
    const std::string broken = folder.write("winogrande.jsonl", "{\"sentence\": \"no gap\"}\n").string();
    const std::string sweep =
        folder.write("sweep.toml", "[train]\nconfig = \"" + train +
                                       "\"\n[sizes]\nsmall = []\n"
                                       "[[run]]\nsizes = [\"small\"]\nmethods = [\"full\"]\n"
                                       "[[run]]\nsizes = [\"small\"]\nmethods = [\"k-means\"]\nbits = [2]\n"
                                       "[evaluate]\ntexts = [\"" +
                                       text + "\"]\ntasks = [\"" + good + "\", \"" + broken + "\"]\ncontext = 16\n");
    return {"profile", "sweep", sweep, "--out"};
}

// What does not depend on time.
std::vector<json> results(const fs::path& folder) {
    std::vector<json> all;
    for (const char* name : {"small-full-16", "small-k-means-2"}) {
        json r = json::parse(read_text_file(folder / "results" / (std::string(name) + ".json")));
        json tasks = json::array();
        for (json& task : r.at("tasks")) tasks.push_back({{"task", task["task"]}, {"metrics", task["metrics"]}});
        all.push_back({{"nll", r.at("mean_nll")},
                       {"digest", r.at("model_digest")},
                       {"bits", r.at("linear_bits_per_weight")},
                       {"tasks", tasks},
                       {"loss", r.at("training").at("loss")}});
    }
    return all;
}

TEST(Sweep, KilledAndContinuedItGivesTheSameResults) {
    ScratchFolder folder;
    std::vector<std::string> arguments = sweep_arguments(folder);
    auto with_out = [&](const char* name) {
        std::vector<std::string> all = arguments;
        all.push_back((folder / name).string());
        return all;
    };
    const ProgramResult whole = run_on_device(with_out("whole"));
    ASSERT_EQ(whole.exit_code, 0) << whole.err;
    EXPECT_CONTAINS(whole.err, "1 of the tasks failed");  // the other one and the perplexity are there
    EXPECT_CONTAINS(whole.out, "small-k-means-2");
    ASSERT_EQ(results(folder / "whole")[0]["tasks"].size(), 1u);

    for (int signal : {SIGKILL, SIGINT}) {
        RunningProgram program(with_out("parts"));
        const char* reached = signal == SIGKILL ? "runs/small-full-16/metrics.jsonl" : "runs/small-k-means-2/metrics.jsonl";
        for (int i = 0; i < 3000 && !fs::exists(folder / "parts" / reached); i++)
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        ASSERT_TRUE(fs::exists(folder / "parts" / reached)) << program.err();
        program.kill(signal);
        const ProgramResult result = program.wait();
        EXPECT_NE(result.exit_code, 0);
        if (signal == SIGINT) {
            EXPECT_CONTAINS(result.err, "the same command goes on");
        }
    }
    const ProgramResult resumed = run_on_device(with_out("parts"));
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_EQ(results(folder / "parts"), results(folder / "whole"));

    const ProgramResult again = run_on_device(with_out("parts"));  // nothing is left to do
    EXPECT_EQ(again.exit_code, 0) << again.err;
    EXPECT_EQ(again.err.find("training"), std::string::npos);
}

}  // namespace
}  // namespace vkqat::test

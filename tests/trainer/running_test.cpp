// What a run shows and survives: traces, TensorBoard files, outliers, several datasets, bad lines.
#include <gtest/gtest.h>

#include <set>

#include "tests/trainer/tiny_run.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::error_of;
using test::Log;
using test::ScratchFolder;

TEST(Running, ATraceShowsCpuAndGpuAndChangesNoBit) {
    ScratchFolder folder;
    TrainConfig plain = test::tiny_config(folder.path()), traced = plain;
    test::quantize(plain);
    test::quantize(traced);
    plain.training.steps = traced.training.steps = 6;
    plain.training.global_batch_size = traced.training.global_batch_size = 8;  // two micro-steps
    traced.job.dump_folder = (folder / "traced").string();
    traced.profiling = {.enable = true, .steps = {2, 5, 100}};
    traced.checkpoint.interval = 5;
    Log log;
    test::run(plain);
    test::run(traced, {}, &log);
    EXPECT_TRUE(log.contains("step 5: trace "));
    test::expect_same_checkpoint(plain, traced, 6);
    EXPECT_EQ(test::timeless_metrics(plain), test::timeless_metrics(traced));

    const fs::path traces = fs::path(traced.job.dump_folder) / "traces";
    ASSERT_EQ(test::names_in(traces), (std::vector<std::string>{"step-00000002.json", "step-00000005.json"}));
    const json trace = json::parse(read_text_file(traces / "step-00000005.json"));
    std::map<int, std::string> tracks;
    std::map<std::string, std::set<std::string>> names;
    std::map<std::string, double> last_end;
    for (const json& e : trace["traceEvents"]) {
        if (e["ph"] == "M") {
            if (e["name"] == "thread_name") tracks[e["tid"]] = e["args"]["name"];
            continue;
        }
        ASSERT_EQ(e["ph"], "X");
        const std::string track = tracks.at(e["tid"]);
        names[track].insert(e["name"].get<std::string>());
        EXPECT_GE(e["dur"].get<double>(), 0);
        if (track.starts_with("GPU: nodes")) {
            // Nothing lies over another: Perfetto would nest it. Doubles of microseconds have room for a billionth.
            EXPECT_GE(e["ts"].get<double>(), last_end[track] - 1e-3) << e;
            last_end[track] = e["ts"].get<double>() + e["dur"].get<double>();
        }
    }
    ASSERT_EQ(names.size(), 3u);
    for (const char* span : {"fit centroids", "inputs and submission", "data", "wait", "log", "checkpoint"})
        EXPECT_TRUE(names["CPU"].contains(span)) << span;
    for (const char* recording :
         {"quantized weights", "forward and backward", "forward and backward, accumulating", "update", "k-means"})
        EXPECT_TRUE(names["GPU: recordings"].contains(recording)) << recording;
    EXPECT_GT(names["GPU: nodes (one at a time)"].size(), 10u);
    EXPECT_FALSE(json::parse(read_text_file(traces / "step-00000002.json")).dump().find("k-means") != std::string::npos);
}

TEST(Running, TensorboardGetsTheCurvesAndEachStartItsFile) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.metrics.enable_tensorboard = true;
    config.validation = {.enable = true, .dataset = {(folder / "valid.txt").string()}, .freq = 6};
    test::run_until(config, 7, false);
    test::run(config, {.resume = true});
    const fs::path tensorboard = fs::path(config.job.dump_folder) / "tensorboard";
    std::string all;
    for (const auto& name : test::names_in(tensorboard)) all += read_text_file(tensorboard / name);
    EXPECT_EQ(test::names_in(tensorboard).size(), 2u);
    auto count = [&](std::string_view tag) {
        size_t n = 0;
        for (size_t at = 0; (at = all.find(tag, at)) != all.npos; at++) n++;
        return n;
    };
    EXPECT_EQ(count("loss/train"), 12u);
    EXPECT_EQ(count("loss/validation"), 2u);
    for (const char* tag :
         {"optimizer/learning_rate", "optimizer/gradient_norm", "speed/tokens_per_second", "speed/memory_bytes"})
        EXPECT_EQ(count(tag), 12u) << tag;
}

TEST(Running, AnOutlierIsSaidAndWrittenDownAlsoRightBehindAResume) {
    ScratchFolder folder;
    TrainConfig whole = test::tiny_config(folder.path()), parts = whole;
    whole.training.steps = parts.training.steps = 24;
    whole.optimizer.lr = parts.optimizer.lr = 1e-4;  // a quiet curve
    parts.job.dump_folder = (folder / "parts").string();
    TrainOptions options;
    options.before_step = [](int64_t step, ParameterStore& parameters) {
        if (step != 22) return;
        const size_t norm = parameters.index("model.norm.weight");
        std::vector<float> values = parameters.read(norm, ParameterStore::Array::weight);
        for (float& v : values) v *= 30;
        parameters.write(norm, ParameterStore::Array::weight, values);
    };
    Log log;
    test::run(whole, options, &log);
    EXPECT_TRUE(log.contains("step 22: loss "));
    std::set<std::string> found;
    for (const auto& line : test::metrics(whole)) {
        if (!line.contains("outlier") || line["step"] != 22) continue;
        found.insert(line["outlier"]);
        EXPECT_GT(line["deviations"].get<double>(), 6);
        EXPECT_GT(line["value"].get<double>(), line["median"].get<double>());
    }
    EXPECT_TRUE(found.contains("loss"));
    test::run_until(parts, 21, false);
    options.resume = true;
    test::run(parts, options);
    EXPECT_EQ(test::timeless_metrics(parts), test::timeless_metrics(whole));
}

TEST(Running, SeveralDatasetsAreMixedAndTheMixtureIsResumed) {
    ScratchFolder folder;
    TrainConfig whole = test::tiny_config(folder.path()), parts;
    folder.write("short.txt", "A text that is over soon.\n\nAnd another one.\n");
    whole.training.datasets = {{whole.training.dataset, 3}, {{(folder / "short.txt").string()}, 1}};
    whole.training.dataset.clear();
    parts = whole;
    parts.job.dump_folder = (folder / "parts").string();
    Log log;
    test::run(whole, {}, &log);
    EXPECT_TRUE(log.contains("75.00 % of the windows: "));
    EXPECT_TRUE(log.contains("short.txt has been read once, and begins again"));
    EXPECT_TRUE(log.contains("short.txt has been read 2 times, and begins again"));
    test::run_until(parts, 5, false);
    test::run(parts, {.resume = true});
    EXPECT_EQ(test::timeless_metrics(parts), test::timeless_metrics(whole));
    test::expect_same_checkpoint(whole, parts, 12);
    const Checkpoint checkpoint(whole.checkpoint_folder() / "step-00000012");
    EXPECT_EQ(checkpoint.state().data.streams[0].windows, 36u);
    EXPECT_EQ(checkpoint.state().data.streams[1].windows, 12u);
    EXPECT_EQ(test::metrics(whole).back()["epochs"][1], checkpoint.state().data.streams[1].epoch);
    EXPECT_EQ(load_train_config(fs::path(whole.job.dump_folder) / "config.toml"), whole);

    TrainConfig other = whole;
    other.training.datasets.pop_back();
    EXPECT_CONTAINS(error_of([&] { test::run(other, {.resume = true}); }), "saved with 2 datasets, the configuration has 1");
}

TEST(Running, BadLinesStopTheRunOrAreCountedAndLeftOut) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.training.steps = 2;
    std::string lines;
    for (int i = 0; i < 200; i++) lines += json{{"text", "Story number " + std::to_string(i)}}.dump() + "\n";
    std::string bad = "{\"text\": \"cut off\n[1, 2]\n" + lines + "{\"txt\": \"misspelt\"}\n\xff\xfe\n" + lines;
    config.training.dataset = {folder.write("stories.jsonl", bad).string()};
    std::string error = error_of([&] { test::run(config); });
    EXPECT_CONTAINS(error, "stories.jsonl:1: expected a JSON object with a string \"text\"");
    config.training.dataset_errors = "skip";
    Log log;
    EXPECT_TRUE(test::run(config, {}, &log).finished);
    for (const char* part :
         {"left out: ", "stories.jsonl:1: expected", "stories.jsonl:2: expected", "stories.jsonl:203: expected",
          "stories.jsonl:204: expected", "4 bad lines are left out", "400 documents"})
        EXPECT_TRUE(log.contains(part)) << part;

    TrainConfig clean = config;  // the same data without them: the same run
    clean.job.dump_folder = (folder / "clean").string();
    clean.training.dataset = {folder.write("clean.jsonl", lines + lines).string()};
    test::run(clean);
    EXPECT_EQ(read_text_file(config.checkpoint_folder() / "step-00000002" / "weights.safetensors"),
              read_text_file(clean.checkpoint_folder() / "step-00000002" / "weights.safetensors"));
}

}  // namespace
}  // namespace vkqat

// Results of sweeps, curves of runs, traces, plots: what the other views show.
#include "app/core/results.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "app/core/plot.h"
#include "app/core/runs.h"
#include "app/core/trace.h"
#include "runtime/support/error.h"
#include "tests/app/folder_test.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

class FilesTest : public FolderTest {
protected:
    void write(const fs::path& path, const std::string& text) {
        fs::create_directories((folder / path).parent_path());
        std::ofstream(folder / path, std::ios::app) << text;
    }
};

class ResultsFolder : public FilesTest {};
class RunFolder : public FilesTest {};

std::string result(const std::string& name, double bytes, double perplexity) {
    return "{\"format\": \"vkqat result\", \"format_version\": 1, \"name\": \"" + name +
           "\", \"size\": \"s\", \"method\": \"k-means\", \"bits\": 2, \"model\": \"models/" + name +
           "\", \"weight_bytes\": " + std::to_string(bytes) + ", \"perplexity\": " + std::to_string(perplexity) +
           ", \"bits_per_byte\": null, \"tasks\": [{\"task\": \"piqa\", \"metrics\": {\"acc\": 0.6, \"acc_norm\": 0.5}}, "
           "{\"task\": \"arc\", \"metrics\": {\"acc\": 0.3}}, {\"task\": \"bad\", "
           "\"error\": \"x\"}], \"sensitivity\": {\"layers\": [{\"layer\": \"0.qkv\", \"bits\": 2, \"bytes\": 10, \"error\": "
           "0.5}]}, \"unknown\": {}}";
}

TEST_F(ResultsFolder, ReadsWhatIsThereAndNamesWhatIsDamaged) {
    write("results/a.json", result("a", 1000, 8));
    write("results/b.json", result("b", 500, 12));
    write("results/c.json", "{");
    write("results/d.json", "{\"format\": \"other\"}");
    write("results/e.json", "{\"format\": \"vkqat result\", \"format_version\": 1}");
    const Results r = read_results(folder);
    ASSERT_EQ(r.models.size(), 3u);
    EXPECT_EQ(r.damaged.size(), 2u);
    EXPECT_EQ(r.models[0].model, folder / "models/a");
    EXPECT_EQ(r.models[0].figures.at("bytes"), 1000);
    EXPECT_EQ(r.models[0].figures.at("accuracy: piqa"), 0.5);
    EXPECT_DOUBLE_EQ(r.models[0].figures.at("mean accuracy"), 0.4);
    EXPECT_FALSE(r.models[0].figures.count("bits per byte"));
    EXPECT_EQ(r.models[0].sensitivity.at(0).error, 0.5);
    EXPECT_EQ(r.models[2].name, "e");
    EXPECT_THROW(read_results(folder / "none"), Error);
}

TEST_F(ResultsFolder, TheParetoFrontHoldsWhatNothingBeats) {
    std::vector<ModelResult> models(6);
    const double points[6][2] = {{100, 10}, {200, 8}, {300, 9}, {400, 5}, {100, 12}, {50, 20}};
    std::vector<const ModelResult*> list;
    for (size_t i = 0; i < 6; i++) {
        models[i].figures = {{"bytes", points[i][0]}, {"perplexity", points[i][1]}, {"mean accuracy", 1 / points[i][1]}};
        list.push_back(&models[i]);
    }
    EXPECT_EQ(pareto_front(list, "bytes", "perplexity"), (std::vector<size_t>{5, 0, 1, 3}));
    EXPECT_EQ(pareto_front(list, "bytes", "mean accuracy"), (std::vector<size_t>{5, 0, 1, 3}));  // more is better
    models[3].figures.erase("perplexity");
    EXPECT_EQ(pareto_front(list, "bytes", "perplexity"), (std::vector<size_t>{5, 0, 1}));
    EXPECT_TRUE(pareto_front({}, "bytes", "perplexity").empty());
}

std::string step(int number, double loss) {
    return "{\"step\": " + std::to_string(number) + ", \"loss\": " + std::to_string(loss) +
           ", \"learning_rate\": 1e-3, \"gradient_norm\": 1.5, \"tokens\": 100, \"skipped_steps\": 1, \"tokens_per_second\": "
           "900, \"memory_bytes\": 1000, \"seconds\": 2}\n";
}

TEST_F(RunFolder, IsWhereTheConfigurationOrTheArgumentsSay) {
    write("c/a.toml", "[training]\ndump_folder = \"no\"\n[job]\ndump_folder_2 = \"no\"\ndump_folder = \"out/x\"  # here\n");
    write("c/b.toml", "[job]\ndescription = \"none\"\n");
    EXPECT_EQ(dump_folder(folder / "c/a.toml", {}), folder / "c/out/x");
    EXPECT_EQ(dump_folder(folder / "c/a.toml", {"--job.dump_folder=../y"}), folder / "y");
    EXPECT_EQ(dump_folder(folder / "c/b.toml", {}), fs::path());
}

TEST_F(RunFolder, IsReadAsItGrows) {
    write("r/config.toml", "[model]\nsteps = 7\n[training]\nsteps = 300\n");
    write("r/metrics.jsonl",
          step(1, 5) + "{\"step\": 1, \"validation_loss\": 4.5, \"validation_tokens\": 10}\n" + step(2, 4).substr(0, 20));
    ASSERT_EQ(find_runs(folder), std::vector<fs::path>{folder / "r"});
    vkqat::Run run = open_run(folder / "r");
    EXPECT_TRUE(update_run(run));
    EXPECT_EQ(run.steps, 300);
    ASSERT_EQ(run.curve(Curve::loss).size(), 1u);
    EXPECT_EQ(run.curve(Curve::validation).at(0).value, 4.5);
    EXPECT_FALSE(update_run(run));  // half a line is not read
    write("r/metrics.jsonl", step(2, 4).substr(20) + "{\"step\": 3, \"skipped\": true, \"loss\": null}\n");
    EXPECT_TRUE(update_run(run));
    EXPECT_EQ(run.curve(Curve::loss).size(), 2u);
    EXPECT_EQ(run.skipped, 2);
    write("r/metrics.jsonl", step(2, 3.5));  // resumed: the step is said again
    EXPECT_TRUE(update_run(run));
    ASSERT_EQ(run.curve(Curve::loss).size(), 2u);
    EXPECT_EQ(run.curve(Curve::loss)[1].value, 3.5);
    std::ofstream(folder / "r/metrics.jsonl") << step(1, 9);  // begun anew
    EXPECT_TRUE(update_run(run));
    ASSERT_EQ(run.curve(Curve::loss).size(), 1u);
    EXPECT_EQ(run.curve(Curve::loss)[0].value, 9);
    write("r/metrics.jsonl", "garbage\n");
    EXPECT_TRUE(update_run(run));
    EXPECT_NE(run.error.find("metrics.jsonl"), std::string::npos);
}

TEST_F(RunFolder, SmoothingAndThinningKeepWhatMatters) {
    std::vector<CurvePoint> points;
    for (int i = 0; i < 1000; i++) points.push_back({double(i), i == 500 ? 100.0 : 1.0});
    const auto thin = thinned(points, 100);
    EXPECT_LE(thin.size(), 100u);
    EXPECT_TRUE(
        std::any_of(thin.begin(), thin.end(), [](const CurvePoint& p) { return p.value == 100; }));  // the outlier is there
    EXPECT_DOUBLE_EQ(smoothed(points, 0.9)[0].value, 1);                                             // corrected at the beginning
    EXPECT_LT(smoothed(points, 0.9)[500].value, 12);
    EXPECT_DOUBLE_EQ(smoothed(points, 0)[500].value, 100);
}

TEST_F(RunFolder, AProcessIsStartedStoppedAndItsEndSeen) {
    TrainProcess process;
    write("program", "#!/bin/sh\necho \"$@ in ${PWD##*/}\"\ntrap 'echo stopped; exit 3' INT\nwhile :; do sleep 0.05; done\n");
    fs::permissions(folder / "program", fs::perms::owner_all);
    EXPECT_FALSE(process.running());
    fs::create_directories(folder / "c");
    process.start(folder / "program", folder / "c/c.toml", {"--a=1"}, folder / "logs/run.log");
    EXPECT_TRUE(process.running());
    EXPECT_THROW(process.start(folder / "program", "c.toml", {}, folder / "x.log"), Error);
    ::usleep(300000);
    process.stop();
    for (int i = 0; i < 100 && process.running(); i++) ::usleep(50000);
    EXPECT_FALSE(process.running());
    EXPECT_EQ(process.exit_code, 3);
    std::ifstream log(folder / "logs/run.log");
    const std::string text{std::istreambuf_iterator<char>(log), {}};
    EXPECT_EQ(text, "train c.toml --a=1 in c\nstopped\n");
    EXPECT_THROW(process.start(folder / "none", "c.toml", {}, folder / "x.log"), Error);
}

TEST(Trace, GoesThroughTheChromeFormat) {
    const std::vector<TraceEvent> events =
        trace_of({{"layers.0.qkv", 1e-3, 2e6, 4e6}, {"layers.11.qkv", 2e-3, 1e6, 0}, {"head", 1e-3, 0, 0}}, "decode");
    EXPECT_DOUBLE_EQ(events[2].start, 3e-3);
    const std::vector<TraceEvent> back = parse_chrome_trace(to_chrome_trace(events), "t.json");
    ASSERT_EQ(back.size(), 3u);
    EXPECT_EQ(back[1].name, "layers.11.qkv");
    EXPECT_EQ(back[1].track, "decode");
    EXPECT_NEAR(back[1].seconds, 2e-3, 1e-12);
    EXPECT_EQ(back[0].bytes, 2e6);
    const std::vector<ProfileSum> sums = sums_by_label(back);
    ASSERT_EQ(sums.size(), 2u);
    EXPECT_EQ(sums[0].label, "qkv");
    EXPECT_EQ(sums[0].count, 2);
    for (const char* bad : {"", "{}", "[]", "{\"traceEvents\": 3}", "[1, 2]"})
        EXPECT_THROW(parse_chrome_trace(bad, "t.json"), Error) << bad;
}

TEST(Trace, FindsTheLayerInALabel) {
    EXPECT_EQ(layer_of("layers.12.down"), 12);
    EXPECT_EQ(without_layer("layers.12.down"), "down");
    EXPECT_EQ(layer_of("layer 3: attention"), 3);
    EXPECT_EQ(layer_of("head"), -1);
    EXPECT_EQ(without_layer("head"), "head");
}

TEST(Plot, TicksAreRoundAndInside) {
    EXPECT_EQ(ticks(0, 10, false, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
    EXPECT_EQ(ticks(1, 1000, true, 5), (std::vector<double>{1, 10, 100, 1000}));
    EXPECT_TRUE(ticks(5, 5, false, 5).empty());
    EXPECT_TRUE(ticks(NAN, 5, false, 5).empty());
    for (double low : {-3.0, 1e-9, 0.5, 123456.0})
        for (double t : ticks(low, low + std::abs(low) * 0.3, false, 6)) EXPECT_GE(t, low);
}

TEST(Plot, LeavesOutWhatALogarithmicAxisCannotShow) {
    Plot plot;
    plot.x.log = true;
    plot.series.push_back({"a<b", {{0, 1}, {1, 2}, {10, NAN}, {100, 3}}, 0xff0000, true, true, 2});
    const PlotScene scene = lay_out(plot, 400, 300, {});
    EXPECT_GT(scene.x.low, 0);
    EXPECT_EQ(std::count_if(scene.shapes.begin(), scene.shapes.end(),
                            [](const PlotShape& s) { return s.kind == PlotShape::Kind::mark; }),
              2);
    EXPECT_NEAR(scene.from_x(scene.to_x(10)), 10, 1e-3);
    const std::string svg = to_svg(scene, {});
    EXPECT_NE(svg.find("a&lt;b"), std::string::npos);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    lay_out(Plot{}, 400, 300, {});  // nothing to show
    lay_out(plot, 1, 1, {});        // nowhere to show it
}

}  // namespace
}  // namespace vkqat

#include "evaluation/sweep.h"

#include <gtest/gtest.h>

#include "evaluation/results.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "tests/support/scratch_folder.h"

namespace vkqat::test {
namespace {

class SweepFile : public testing::Test {
protected:
    ScratchFolder folder;
    std::string text = folder.write("valid.txt", "abc");
    std::string config = folder.write("train.toml",
                                      "[model]\nhidden_size = 64\nintermediate_size = 128\nnum_hidden_layers = 2\n"
                                      "num_attention_heads = 4\ntokenizer_path = \"tok\"\n[training]\ndataset = \"a.txt\"\n");
    std::string evaluate = "[evaluate]\ntexts = [\"" + text + "\"]\n";
    std::string train = "[train]\nconfig = \"" + config + "\"\nset = [\"training.steps=7\"]\n";
    std::string sizes = "[sizes]\nsmall = []\nlarge = [\"model.hidden_size=128\"]\n";

    Sweep read(const std::string& toml) { return read_sweep(folder.write("sweep.toml", toml)); }
    std::string error(const std::string& toml) {
        return error_of([&] { read(toml); });
    }
};

TEST_F(SweepFile, EverySizeWithEveryMethodAtEveryWidth) {
    Sweep s = read(train + sizes + "[models]\ngiven = \"m\"\n[[run]]\nsizes = [\"small\"]\nmethods = [\"full\"]\n" +
                   "[[run]]\nsizes = [\"large\"]\nmodels = [\"given\"]\nmethods = [\"k-means\", \"integers\"]\nbits = [1, 4]\n" +
                   evaluate);
    std::vector<std::string> names;
    for (const SweepPoint& p : s.points) names.push_back(p.name);
    EXPECT_EQ(names, (std::vector<std::string>{"small-full-16", "large-k-means-1", "large-k-means-4", "large-integers-1",
                                               "large-integers-4", "given-k-means-1", "given-k-means-4", "given-integers-1",
                                               "given-integers-4"}));
    auto has = [&](size_t point, const std::string& line) { return s.points[point].settings.find(line) != std::string::npos; };
    EXPECT_TRUE(has(0, "quantizer = \"none\"") && has(0, "hidden_size = 64") && has(0, "steps = 7"));
    EXPECT_TRUE(has(1, "quantizer = \"nonlinear\"") && has(1, "target_bit_width = 1") && has(1, "\"absmean\""));
    EXPECT_TRUE(has(2, "hidden_size = 128") && has(2, "\"absmax\""));
    EXPECT_TRUE(has(3, "quantizer = \"binary\""));
    EXPECT_TRUE(has(4, "quantizer = \"sym_int\""));
    EXPECT_EQ(s.points[7].quantize, (std::vector<std::string>{"--quantizer=binary", "--scale=absmean", "--bits=1"}));
    EXPECT_TRUE(s.points[7].train.empty());
}

TEST_F(SweepFile, MistakesAreNamed) {
    const std::string run = "[[run]]\nsizes = [\"small\"]\nmethods = [\"k-means\"]\nbits = [2]\n";
    EXPECT_CONTAINS(error(train + sizes + evaluate), "[[run]]");
    EXPECT_CONTAINS(error(train + sizes + run), "texts or tasks");
    EXPECT_CONTAINS(error(train + sizes + run + "[evaluate]\ntexts = [\"gone.txt\"]\n"), "gone.txt");
    EXPECT_CONTAINS(error(train + sizes + run + run + evaluate), "small-k-means-2 stands there twice");
    EXPECT_CONTAINS(error(train + run + evaluate), "'small' is not defined in [sizes]");
    EXPECT_CONTAINS(error(sizes + run + evaluate), "config is needed");
    EXPECT_CONTAINS(error(train + "[sizes]\nsmall = [\"model.hiden_size=3\"]\n" + run + evaluate), "hiden_size");
    EXPECT_CONTAINS(error(train + "[sizes]\nsmall = [\"--help\"]\n" + run + evaluate), "section.key=value");
    EXPECT_CONTAINS(error(train + "[sizes]\nsmall = [\"job.dump_folder=/\"]\n" + run + evaluate), "chosen by the sweep");
    EXPECT_CONTAINS(error(train + "[sizes]\n\"../x\" = []\n" + run + evaluate), "names of files");
    EXPECT_CONTAINS(error(train + sizes + "[[run]]\nsizes = [\"small\"]\nmethods = [\"full\"]\nbits = [4]\n" + evaluate),
                    "16 bits");
    EXPECT_CONTAINS(error(train + sizes + "[[run]]\nsizes = [\"small\"]\nmethods = [\"nf5\"]\nbits = [4]\n" + evaluate), "nf5");
    EXPECT_CONTAINS(error("[trian]\n"), "unknown key 'trian'");
    EXPECT_CONTAINS(error("[train"), "sweep.toml");
}

TEST_F(SweepFile, ResultsMergeUnlessOneNameIsTwoModels) {
    auto put = [&](const std::string& sweep, const std::string& name, const std::string& settings, double perplexity) {
        folder.write(sweep + "/results/" + name + ".json",
                     fmt::format(R"({{"name": "{}", "model": "models/x", "method": "k-means", "settings": "{}", )"
                                 R"("weight_bytes": 5, "perplexity": {}, "mean_nll": 1}})",
                                 name, settings, perplexity));
    };
    for (const char* name : {"a/results", "b/results", "b/runs/two", "c/results"})
        std::filesystem::create_directories(folder / name);
    put("a", "one", "s1", 3);
    put("b", "one", "s1", 4);
    put("b", "two", "s2", 5);
    folder.write("b/runs/two/metrics.jsonl", "{\"step\": 1}\n");
    EXPECT_EQ(merge_results(folder / "out", {folder / "a", folder / "b"}), 2u);
    EXPECT_EQ(read_text_file(folder / "out" / "runs" / "two" / "metrics.jsonl"), "{\"step\": 1}\n");
    std::vector<ResultPoint> points = read_results(folder / "out");
    ASSERT_EQ(points.size(), 2u);
    EXPECT_EQ(points[0].name, "one");
    EXPECT_EQ(points[0].metrics.at("perplexity"), 3);  // the first one stays
    EXPECT_EQ(points[0].group, "k-means");
    EXPECT_EQ(merge_results(folder / "out", {folder / "a", folder / "b"}), 0u);
    put("c", "two", "s3", 5);
    EXPECT_CONTAINS(error_of([&] { merge_results(folder / "out", {folder / "c"}); }), "one name");
    EXPECT_CONTAINS(error_of([&] { merge_results(folder / "out", {folder / "empty"}); }), "there are no results");
    folder.write("c/results/two.json", "{");
    EXPECT_CONTAINS(error_of([&] { read_results(folder / "c"); }), "two.json");
}

}  // namespace
}  // namespace vkqat::test

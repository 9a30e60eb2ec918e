#include "evaluation/figure.h"

#include "evaluation/results.h"
#include "tests/support/scratch_folder.h"

namespace vkqat::test {
namespace {

size_t count(const std::string& text, const std::string& part) {
    size_t n = 0;
    for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) n++;
    return n;
}

TEST(Figure, TextIsEscapedAndGapsAreNotDrawn) {
    Figure f{.title = "a < \"b\" & c\x01", .x = {.label = "x"}, .y = {.label = "y"}};
    f.series.push_back({.name = "<s>", .mark = Mark::line, .x = {0, 1, 2, 3}, .y = {1, 2, NAN, 4}});
    f.series.push_back({.name = "t", .mark = Mark::points, .x = {0, INFINITY}, .y = {1, 2}});
    std::string text = svg(f, Theme::light);
    EXPECT_CONTAINS(text, "a &lt; &quot;b&quot; &amp; c ");
    EXPECT_CONTAINS(text, "&lt;s&gt;");
    EXPECT_EQ(text.find("nan"), text.npos);
    EXPECT_EQ(text.find("inf"), text.npos);
    EXPECT_EQ(count(text, "stroke-linejoin="), 1u);
    size_t path = text.find("<path d=\"M");
    EXPECT_EQ(count(text.substr(path, text.find('>', path) - path), "M"), 2u);  // two pieces
}

TEST(Figure, ThemesDifferInColoursOnly) {
    Figure f{.title = "t", .x = {.label = "x", .logarithmic = true}, .y = {.label = "y"}};
    f.series.push_back({.name = "s", .mark = Mark::line_and_points, .x = {1e3, 1e6}, .y = {1, 2}, .labels = {"a", "b"}});
    std::string light = svg(f, Theme::light), dark = svg(f, Theme::dark), both = svg(f, Theme::automatic);
    EXPECT_EQ(light.substr(light.find("</style>")), dark.substr(dark.find("</style>")));
    EXPECT_NE(light, dark);
    EXPECT_EQ(light.find("prefers-color-scheme"), light.npos);
    EXPECT_CONTAINS(both, "prefers-color-scheme:dark");
}

TEST(Figure, NothingAndOnePointAreDrawnToo) {
    Figure f{.title = "t", .x = {.label = "x"}, .y = {.label = "y"}};
    EXPECT_CONTAINS(svg(f, Theme::light), "no data");
    f.series.push_back({.name = "s", .mark = Mark::points, .x = {5}, .y = {0}});
    EXPECT_EQ(svg(f, Theme::light).find("nan"), std::string::npos);
}

TEST(Figure, ReportRefersToNothingOutside) {
    Figure f{.title = "t", .x = {.label = "x"}, .y = {.label = "y"}};
    f.series.push_back({.name = "s", .x = {0, 1}, .y = {0, 1}});
    std::string html = html_report("r", {{"h", "text", {f, f}, {{"a", "b"}, {"1", "<2>"}}}});
    EXPECT_EQ(count(html, "<svg"), 2u);
    EXPECT_EQ(count(html, "id=\"area0\"") + count(html, "id=\"area1\""), 2u);
    EXPECT_EQ(count(html, "http"), 2u);  // the name space of SVG, which nobody fetches
    EXPECT_CONTAINS(html, "<td>&lt;2&gt;</td>");
}

TEST(Results, FrontHasWhatNoOtherBeats) {
    std::vector<double> bytes{4, 1, 2, 2, 3, 1, NAN}, loss{1, 5, 3, 2, 2, 5, 0};
    EXPECT_EQ(pareto_front(bytes, loss, false), (std::vector<size_t>{1, 3, 0}));
    EXPECT_EQ(pareto_front(bytes, {0, 0.1, 0.3, 0.2, 0.3, 0.1, 9}, true), (std::vector<size_t>{1, 2}));
    EXPECT_TRUE(pareto_front({}, {}, true).empty());
}

TEST(Results, AreReadFromWhatEvalPrints) {
    ScratchFolder folder;
    auto one = read_results(folder.write("a.json", R"({"file":"t","model":"out/x/","weights":"nonlinear 2 bits","weight_bytes":10,
        "linear_bits_per_weight":2.25,"mean_nll":1.5,"perplexity":4.5,"decode_tokens_per_second":7})"));
    ASSERT_EQ(one.size(), 1u);
    EXPECT_EQ(one[0].name, "x");
    EXPECT_EQ(one[0].group, "nonlinear");
    EXPECT_EQ(one[0].metrics.at("nll"), 1.5);
    auto tasks = read_results(folder.write("b.json", R"({"models":[{"model":"m","tasks":[{"task":"piqa","metrics":
        {"acc":0.5,"acc_stderr":0.1}},{"task":"x","error":"e"}]},{"model":"n"}]})"));
    ASSERT_EQ(tasks.size(), 2u);
    EXPECT_EQ(tasks[0].metrics.at("piqa acc"), 0.5);
    EXPECT_EQ(tasks[0].errors.at("piqa acc"), 0.1);
    EXPECT_EQ(read_results(folder.write("c.jsonl", "{\"model\":\"a\"}\n\n{\"model\":\"b\"}\n")).size(), 2u);
    EXPECT_CONTAINS(error_of([&] { read_results(folder.write("d.json", "{\"a\":1}")); }), "\"model\"");
    EXPECT_CONTAINS(error_of([&] { read_results(folder.write("e.jsonl", "{\"model\":\"a\"}\n{\"b\":1}\n")); }), "line 2");
    EXPECT_CONTAINS(error_of([&] { read_results(folder.write("f.jsonl", "\n")); }), "no results");
}

}  // namespace
}  // namespace vkqat::test

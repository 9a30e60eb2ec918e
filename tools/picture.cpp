#include "tools/picture.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/formats/json_text.h"
#include "runtime/formats/weight_spread.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "tools/model.h"
#include "trainer/checkpoint.h"

extern char** environ;

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<json> json_lines(const fs::path& file) {
    const std::string text = read_text_file(file, size_t(1) << 30);
    std::vector<json> rows;
    size_t number = 0;
    for (size_t at = 0; at < text.size();) {
        const size_t end = text.find('\n', at);
        if (end == text.npos) break;  // a line that is still being written
        rows.push_back(
            parse_json(std::string_view(text).substr(at, end - at), fmt::format("{}: line {}", file.string(), ++number)));
        at = end + 1;
    }
    return rows;
}

std::optional<double> number(const json& row, const char* key) {
    auto found = row.find(key);
    if (found == row.end() || !found->is_number()) return {};
    return found->get<double>();
}

// The results of `vkqat bench --json`.
std::vector<json> bench_rows(const fs::path& file) {
    const json all = parse_json(read_text_file(file, size_t(64) << 20), file.string());
    if (!all.is_object() || !all.contains("rows") || !all["rows"].is_array())
        fail("{}: expected what `vkqat bench --json` prints: an object with rows", file.string());
    std::vector<json> rows;
    for (const json& row : all["rows"])
        if (row.is_object()) rows.push_back(row);
    return rows;
}

std::string metric_label(const std::string& metric) {
    if (metric == "perplexity") return "perplexity";
    if (metric == "nll") return "nats per token";
    if (metric == "bits_per_byte") return "bits per byte";
    return metric;
}

AxisFormat metric_format(const std::string& metric) { return more_is_better(metric) ? AxisFormat::percent : AxisFormat::number; }

// One series of points for each method, and the front of all.
Figure scatter(const std::vector<ResultPoint>& points, const std::string& metric, double ResultPoint::*cost, bool less_cost) {
    Figure f;
    f.y.format = metric_format(metric);
    std::map<std::string, Series> groups;
    std::vector<double> costs, values;
    for (const ResultPoint& p : points) {
        auto found = p.metrics.find(metric);
        if (found == p.metrics.end() || !(p.*cost > 0)) continue;
        Series& s = groups[p.group];
        s.name = p.group.empty() ? "other" : p.group;
        s.mark = Mark::points;
        s.x.push_back(p.*cost);
        s.y.push_back(found->second);
        s.labels.push_back(p.name);
        auto error = p.errors.find(metric);
        s.error.push_back(error == p.errors.end() ? 0 : error->second);
        costs.push_back(less_cost ? p.*cost : -(p.*cost));
        values.push_back(found->second);
    }
    for (auto& [name, s] : groups) f.series.push_back(std::move(s));
    Series front{.name = "Pareto front", .mark = Mark::front};
    for (size_t i : pareto_front(costs, values, more_is_better(metric))) {
        front.x.push_back(std::abs(costs[i]));
        front.y.push_back(values[i]);
    }
    if (front.x.size() > 1) f.series.push_back(std::move(front));
    return f;
}

// Costs that are nearly equal should look so.
void widen(Figure& f) {
    double lowest = INFINITY, highest = 0;
    for (const Series& s : f.series)
        for (double v : s.x) lowest = std::min(lowest, v), highest = std::max(highest, v);
    if (highest > 0 && highest < 1.5 * lowest) {
        const double middle = std::sqrt(lowest * highest);
        f.x.lowest = middle / 1.5;
        f.x.highest = middle * 1.5;
    }
}

}  // namespace

void write_picture(const fs::path& file, const Figure& figure, Theme theme) {
    const std::string text = svg(figure, theme);
    if (file.extension() == ".svg") return write_text_file(file, text);
    if (file.extension() != ".png") fail("{}: expected a name that ends in .svg or .png", file.string());
    const fs::path source = file.string() + ".tmp.svg";
    write_text_file(source, text);
    std::string arguments[] = {"rsvg-convert", "--zoom=2", "--output", file.string(), source.string()};
    char* pointers[6] = {};
    for (int i = 0; i < 5; i++) pointers[i] = arguments[i].data();
    pid_t child = 0;
    int status = -1;
    const int error = ::posix_spawnp(&child, "rsvg-convert", nullptr, nullptr, pointers, environ);
    if (error == 0)
        while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
    fs::remove(source);
    if (error != 0)
        fail("{}: PNG needs the program rsvg-convert: install the package librsvg2-bin, or write .svg", file.string());
    if (status != 0) fail("{}: rsvg-convert failed", file.string());
}

Figure loss_figure(const std::vector<fs::path>& runs, bool by_tokens) {
    Figure f{.title = "Training loss",
             .x = {.label = by_tokens ? "tokens" : "step", .format = AxisFormat::count},
             .y = {.label = "loss (nats per token)"}};
    double highest = 0;  // behind the first tenth
    bool cut = !runs.empty();
    size_t run_number = 0;
    for (const fs::path& run : runs) {
        const fs::path file = fs::is_directory(run) ? run / "metrics.jsonl" : run;
        const std::string name = model_name(fs::is_directory(run) ? run : run.parent_path());
        Series loss{.name = name, .mark = Mark::line}, validation{.name = name + ", validation", .mark = Mark::line_and_points};
        std::map<double, double> tokens;
        double quantized = 0;
        bool before = false;
        for (const json& row : json_lines(file)) {
            if (!row.is_object()) fail("{}: expected JSON objects", file.string());
            auto step = number(row, "step");
            if (!step) continue;
            if (auto t = number(row, "tokens")) tokens[*step] = *t;
            auto place = [&] { return by_tokens && tokens.contains(*step) ? tokens[*step] : *step; };
            if (auto value = number(row, "loss"); value && row.contains("learning_rate")) {
                loss.x.push_back(place());
                loss.y.push_back(*value);
                const bool is = row.value("quantized", false);
                if (is && before && quantized == 0) quantized = place();
                before |= !is;
            }
            if (auto value = number(row, "validation_loss"); value && (!by_tokens || tokens.contains(*step))) {
                validation.x.push_back(place());
                validation.y.push_back(*value);
            }
        }
        if (loss.x.empty() && validation.x.empty()) fail("{}: holds no losses", file.string());
        if (!validation.x.empty() && !loss.x.empty()) {  // one entry of the legend for both
            loss.faint = true;
            validation.name = std::exchange(loss.name, "");
            f.subtitle = "lines with marks: validation; thin lines: training";
        }
        if (loss.x.size() >= 20)
            for (size_t i = 0; i < loss.x.size(); i++)
                if (loss.x[i] >= 0.1 * loss.x.back()) highest = std::max(highest, loss.y[i]);
        cut = cut && loss.x.size() >= 20;
        loss.like = validation.like = run_number++;
        if (!loss.x.empty()) f.series.push_back(std::move(loss));
        if (!validation.x.empty()) f.series.push_back(std::move(validation));
        const bool known = std::any_of(f.rules.begin(), f.rules.end(), [&](const Rule& r) { return r.x == quantized; });
        if (quantized > 0 && !known) f.rules.push_back({quantized, "quantized from here"});
    }
    if (cut) f.y.highest = 1.02 * highest;  // the first steps would take most of the picture
    return f;
}

Figure quality_figure(const std::vector<ResultPoint>& points, std::string metric, bool by_bits) {
    metric = choose_metric(points, std::move(metric));
    Figure f = scatter(points, metric, by_bits ? &ResultPoint::bits : &ResultPoint::bytes, true);
    f.title = by_bits ? "Quality against bits" : "Quality against memory";
    f.x = by_bits ? Axis{.label = "bits per weight of the linear layers"}
                  : Axis{.label = "weights on the device", .format = AxisFormat::bytes, .logarithmic = true};
    f.y.label = metric_label(metric) + (more_is_better(metric) ? " (more is better)" : " (less is better)");
    if (!by_bits) widen(f);
    return f;
}

Figure quality_at_speed_figure(const std::vector<ResultPoint>& points, std::string metric) {
    metric = choose_metric(points, std::move(metric));
    Figure f = scatter(points, metric, &ResultPoint::decode_rate, false);
    f.title = "Quality against speed";
    f.x = {.label = "decoded tokens per second, one sequence", .format = AxisFormat::count, .logarithmic = true};
    f.y.label = metric_label(metric) + (more_is_better(metric) ? " (more is better)" : " (less is better)");
    widen(f);
    return f;
}

Figure speed_figure(const std::vector<ResultPoint>& points) {
    Figure f{.title = "Speed against bits",
             .x = {.label = "bits per weight of the linear layers"},
             .y = {.label = "decoded tokens per second, one sequence", .format = AxisFormat::count, .lowest = 0}};
    std::map<std::string, Series> groups;
    for (const ResultPoint& p : points) {
        if (!(p.bits > 0) || !(p.decode_rate > 0)) continue;
        Series& s = groups[p.group];
        s.name = p.group.empty() ? "other" : p.group;
        s.mark = Mark::points;
        s.x.push_back(p.bits);
        s.y.push_back(p.decode_rate);
        s.labels.push_back(p.name);
    }
    if (groups.empty()) fail("no result has both bits per weight and decoded tokens per second");
    for (auto& [name, s] : groups) f.series.push_back(std::move(s));
    return f;
}

Figure length_figure(const std::vector<fs::path>& files) {
    Figure f{.title = "Speed over the length of the context",
             .x = {.label = "positions in the cache", .format = AxisFormat::count},
             .y = {.label = "decoded tokens per second", .format = AxisFormat::count, .lowest = 0}};
    std::map<std::string, std::map<double, double>> lines;
    for (const fs::path& file : files)
        for (const json& row : bench_rows(file)) {
            const auto cached = number(row, "cached"), rate = number(row, "tokens_per_s");
            if (!cached || !rate || !row.contains("name") || !row["name"].is_string()) continue;
            std::string name = row["name"].get<std::string>();
            name = name.substr(0, name.rfind(", "));  // "decode 12B at 4 bits, 4000 cached"
            if (name.starts_with("decode ")) name.erase(0, 7);
            if (row.contains("cache") && row["cache"].is_string())
                name += fmt::format(", {} cache", row["cache"].get<std::string>());
            lines[name][*cached] = *rate;
        }
    if (lines.empty()) fail("no row has cached positions: expected what `vkqat bench decode --cached ... --json` prints");
    for (const auto& [name, line] : lines) {
        Series s{.name = name, .mark = Mark::line_and_points};
        for (auto [cached, rate] : line) {
            s.x.push_back(cached);
            s.y.push_back(rate);
        }
        f.series.push_back(std::move(s));
    }
    if (lines.size() == 1) f.subtitle = std::exchange(f.series[0].name, "");
    return f;
}

namespace {

std::string default_layer(const LlamaConfig& c) { return fmt::format("model.layers.{}.mlp.gate_proj", c.layers / 2); }

void add_spread(Figure& f, const WeightSpread& spread) {
    f.series.push_back({.mark = Mark::histogram, .x = spread.edges, .y = spread.shares});
    if (const size_t n = spread.centroids.size()) {
        for (double level : spread.centroids) f.rules.push_back({level, n <= 16 ? fmt::format("{:.3g}", level) : ""});
        f.subtitle += fmt::format(", {} bit{}", spread.bits, spread.bits == 1 ? "" : "s");
        if (spread.block > 0) f.subtitle += fmt::format(", blocks of {}", spread.block);
        f.subtitle += fmt::format(": the share of each of {} centroids (lines) over its cell", n);
    } else {
        f.subtitle += fmt::format(", root mean square {:.3g}; beyond 4 of those nothing is drawn", spread.root_mean_square);
        if (!f.rules.empty()) f.subtitle += fmt::format("; {} centroids", f.rules.size());
    }
    f.x.label = f.rules.empty() ? "weight" : "weight / scale of its block";
}

constexpr size_t histogram_bins = 96;

// The weights as they are trained, over their block's scale where the checkpoint has centroids.
void add_trained(Figure& f, const Checkpoint& checkpoint, const std::string& layer) {
    const auto [name, out, in] = linear_shape(checkpoint.model(), layer);
    std::vector<float> weights = read_floats(checkpoint.weights().get(layer + ".weight"));
    const QuantizerConfig quantizer = quantizer_config(checkpoint.config());
    const TensorView* levels = checkpoint.centroids(layer);
    const BlockLayout layout = block_layout(quantizer, out, in, layer);
    if (levels && layout.block_rows == 1) {
        const std::vector<float> scales = block_scales(weights, in, layout.block_cols, quantizer.scale);
        for (size_t i = 0; i < weights.size(); i++) weights[i] /= scales[i / size_t(layout.block_cols)];
        const std::vector<float> values = read_floats(*levels);
        for (float v : values) f.rules.push_back({double(v), values.size() <= 16 ? fmt::format("{:.3g}", v) : ""});
    }
    add_spread(f, spread(weights, histogram_bins));
}

}  // namespace

Figure weights_figure(const fs::path& path, const std::string& given) {
    auto figure = [&](const std::string& layer, const std::string& source) {
        return Figure{.title = fmt::format("Weights of {}", layer),
                      .subtitle = source,
                      .y = {.label = "share of the weights", .format = AxisFormat::percent}};
    };
    if (is_run(path)) {
        const Checkpoint checkpoint =
            open_checkpoint(path, [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); });
        const std::string layer = given.empty() ? default_layer(checkpoint.model()) : given;
        Figure f = figure(layer, fmt::format("{}, step {}", model_name(path), checkpoint.state().step));
        add_trained(f, checkpoint, layer);
        return f;
    }
    check_model_directory(path);
    const LlamaConfig c = read_llama_config(path);
    const std::string layer = given.empty() ? default_layer(c) : given;
    Figure f = figure(layer, model_name(path));
    add_spread(f, weight_spread(ModelFiles::open(path), c, layer, histogram_bins));
    return f;
}

std::vector<Figure> json_figures(const fs::path& file) {
    json all = parse_json(read_text_file(file, size_t(64) << 20), file.string());
    std::string source = file.filename().string();
    if (all.is_object() && all.contains("format") && (all.contains("profile") || all.contains("sensitivity"))) {
        // a sweep's result: both parts of it
        if (all.contains("name") && all["name"].is_string()) source = all["name"].get<std::string>();
        json parts = json::object();
        for (const char* key : {"profile", "sensitivity"})
            if (all.contains(key) && all[key].is_object()) parts.update(all[key]);
        all = std::move(parts);
    }
    std::vector<Figure> figures;
    auto nodes = [&](const json& list, const std::string& title) {
        Figure f{.title = title, .subtitle = source, .x = {.label = "time", .format = AxisFormat::seconds}};
        Series s{.mark = Mark::bars};
        std::vector<std::pair<double, std::string>> rows;
        for (const json& row : list)
            if (row.is_object() && row.contains("node") && row["node"].is_string() && number(row, "microseconds"))
                rows.emplace_back(1e-6 * *number(row, "microseconds"), row["node"].get<std::string>());
        std::stable_sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.first > b.first; });
        double total = 0, rest = 0;
        for (auto& row : rows) total += row.first;
        for (size_t i = 0; i < rows.size(); i++) {
            if (i >= 24) {
                rest += rows[i].first;
                continue;
            }
            f.y.names.push_back(rows[i].second);
            s.y.push_back(rows[i].first);
            s.labels.push_back(fmt::format("{:.1f} %", 100 * rows[i].first / total));
        }
        if (rest > 0) {
            f.y.names.push_back("others");
            s.y.push_back(rest);
            s.labels.push_back(fmt::format("{:.1f} %", 100 * rest / total));
        }
        if (rows.empty()) return;
        f.series.push_back(std::move(s));
        figures.push_back(std::move(f));
    };
    if (all.is_object()) {
        for (auto [key, title] : {std::pair("decode", "Time by node: one decoded token"), {"prefill", "Time by node: prefill"}})
            if (all.contains(key) && all[key].is_object() && all[key].contains("nodes")) nodes(all[key]["nodes"], title);
        if (all.contains("rows") && all["rows"].is_array())  // of a benchmark
            for (const json& row : all["rows"])
                if (row.is_object() && row.contains("nodes") && row["nodes"].is_array() && row.contains("name") &&
                    row["name"].is_string())
                    nodes(row["nodes"], "Time by node: " + row["name"].get<std::string>());
        if (all.contains("memory") && all["memory"].is_array()) {
            Figure f{.title = "Memory by part", .subtitle = source, .x = {.label = "bytes", .format = AxisFormat::bytes}};
            Series s{.mark = Mark::bars};
            for (const json& row : all["memory"])
                if (row.is_object() && row.contains("part") && row["part"].is_string() && number(row, "bytes")) {
                    f.y.names.push_back(row["part"].get<std::string>());
                    s.y.push_back(*number(row, "bytes"));
                }
            f.series.push_back(std::move(s));
            if (!f.y.names.empty()) figures.push_back(std::move(f));
        }
        if (all.contains("layers") && all["layers"].is_array()) {
            Figure f{.title = "Error by layer",
                     .subtitle = source,
                     .x = {.label = all.contains("unit") && all["unit"].is_string() ? all["unit"].get<std::string>() : "error"}};
            std::map<double, Series> widths;  // by bits; 0: not given
            for (const json& row : all["layers"])
                if (row.is_object() && row.contains("layer") && row["layer"].is_string() && number(row, "error")) {
                    const auto name = row["layer"].get<std::string>();
                    const double bits = number(row, "bits").value_or(0), error = *number(row, "error");
                    auto at = std::find(f.y.names.begin(), f.y.names.end(), name);
                    if (at == f.y.names.end()) at = f.y.names.insert(at, name);
                    Series& s = widths[bits];
                    s.name = bits > 0 ? fmt::format("{} bit{}", bits, bits == 1 ? "" : "s") : "";
                    s.mark = Mark::bars;
                    s.y.resize(std::max(s.y.size(), size_t(at - f.y.names.begin()) + 1), NAN);
                    s.y[size_t(at - f.y.names.begin())] = error;
                }
            if (widths.size() > 1) {  // of sizes so different that bars would not show them
                const bool of_layers = f.y.names[0].ends_with(".qkv") && f.y.names.size() % 4 == 0;
                f.y = {.label = f.x.label, .logarithmic = true, .names = std::move(f.y.names)};
                f.x = {.label = of_layers ? "layer, with its parts qkv, o, gate_up, down" : "part"};
                for (auto& [bits, s] : widths) {
                    s.mark = Mark::line_and_points;
                    for (size_t i = 0; i < s.y.size(); i++) s.x.push_back(double(i) / (of_layers ? 4 : 1));
                }
            }
            for (auto& [bits, s] : widths) f.series.push_back(std::move(s));
            if (!f.y.names.empty()) figures.push_back(std::move(f));
        }
    }
    if (figures.empty())
        fail(
            "{}: expected the JSON of `vkqat profile` or `vkqat bench`, or per-layer errors: {{\"layers\": [{{\"layer\", "
            "\"error\"}}]}}",
            file.string());
    return figures;
}

}  // namespace vkqat

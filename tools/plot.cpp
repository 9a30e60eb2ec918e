// vkqat plot: pictures of runs, results, models and profiles, one by one or as a report.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/support/files.h"
#include "tools/console.h"
#include "tools/model.h"
#include "tools/picture.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

struct Options {
    std::vector<std::string> inputs;
    std::string out, theme = "light", metric, layer, x;
};

Theme theme_of(const std::string& name) {
    return name == "dark" ? Theme::dark : name == "auto" ? Theme::automatic : Theme::light;
}

std::vector<ResultPoint> results_of(const std::vector<std::string>& files) {
    std::vector<ResultPoint> points;
    for (const std::string& file : files)
        for (ResultPoint& p : read_results(file)) points.push_back(std::move(p));
    return points;
}

void write(const Options& o, const Figure& figure, size_t number = 0) {
    fs::path file = o.out;
    if (number > 0) file.replace_filename(fmt::format("{}-{}{}", file.stem().string(), number + 1, file.extension().string()));
    write_picture(file, figure, theme_of(o.theme));
    std::printf("%s\n", file.c_str());
}

// What stands behind a report's pictures, as a table.
std::vector<std::vector<std::string>> table_of(const std::vector<ResultPoint>& points) {
    std::vector<std::string> metrics;
    auto repeated = [&](const std::string& metric) {  // a sweep's figures are those of its first text
        return std::all_of(points.begin(), points.end(), [&](const ResultPoint& p) {
            auto found = p.metrics.find(metric);
            return found == p.metrics.end() || std::any_of(p.metrics.begin(), p.metrics.end(), [&](auto& m) {
                       return m.first.ends_with(" " + metric) && m.second == found->second;
                   });
        });
    };
    for (const ResultPoint& p : points)
        for (auto& [name, value] : p.metrics)
            if (!repeated(name) && std::find(metrics.begin(), metrics.end(), name) == metrics.end() &&
                !name.ends_with("acc_bytes"))
                metrics.push_back(name);
    std::vector<std::vector<std::string>> table{{"model", "method", "weights", "bits/weight", "decode tokens/s"}};
    table[0].insert(table[0].end(), metrics.begin(), metrics.end());
    for (const ResultPoint& p : points) {
        std::vector<std::string> row{p.name, p.group, p.bytes > 0 ? human_bytes(p.bytes) : "-",
                                     p.bits > 0 ? fmt::format("{:.2f}", p.bits) : "-",
                                     p.decode_rate > 0 ? human_rate(p.decode_rate) : "-"};
        for (const std::string& m : metrics) {
            auto found = p.metrics.find(m);
            row.push_back(found == p.metrics.end() ? "-"
                          : more_is_better(m)      ? fmt::format("{:.2f} %", 100 * found->second)
                                                   : fmt::format("{:.4f}", found->second));
        }
        table.push_back(std::move(row));
    }
    return table;
}

void report(const Options& o) {
    std::vector<fs::path> runs;
    std::vector<ResultPoint> points;
    std::vector<Section> sections;
    std::vector<Figure> profiles, weights;
    for (const std::string& input : o.inputs) {
        const fs::path path = input;
        if (fs::is_directory(path / "results")) {  // of a sweep
            for (ResultPoint& p : read_results(path)) {
                const fs::path run = path / "runs" / p.name, result = path / "results" / (p.name + ".json");
                if (has_file(run / "metrics.jsonl")) runs.push_back(run);
                if (read_json_object(result, size_t(64) << 20).contains("sensitivity"))
                    for (Figure& f : json_figures(result)) profiles.push_back(std::move(f));
                points.push_back(std::move(p));
            }
        } else if (fs::is_directory(path) && has_file(path / "metrics.jsonl")) {
            runs.push_back(path);
        } else if (fs::is_directory(path) || path.extension() == ".gguf") {
            weights.push_back(weights_figure(path, o.layer));
        } else {
            std::vector<ResultPoint> more;
            std::string reason;
            try {
                more = read_results(path);
            } catch (const Error& e) {
                reason = e.what();
            }
            if (!reason.empty()) {
                try {
                    for (Figure& f : json_figures(path)) profiles.push_back(std::move(f));
                } catch (const Error& e) {
                    fail("{}; {}", reason, e.what());
                }
            }
            points.insert(points.end(), more.begin(), more.end());
        }
    }
    if (!runs.empty()) sections.push_back({"Training", "", {loss_figure(runs, o.x == "tokens")}, {}});
    if (!points.empty()) {
        Section s{"Results",
                  "Quality against memory and against speed. A point that is not on the front is no better on either axis than "
                  "one that is.",
                  {},
                  table_of(points)};
        s.figures.push_back(quality_figure(points, o.metric, false));
        auto try_add = [&](auto&& make) {
            try {
                s.figures.push_back(make());
            } catch (const Error&) {  // these results do not say what it takes
            }
        };
        try_add([&] { return quality_at_speed_figure(points, o.metric); });
        try_add([&] { return speed_figure(points); });
        std::erase_if(s.figures, [](const Figure& f) { return f.series.empty(); });
        sections.push_back(std::move(s));
    }
    if (!profiles.empty()) sections.push_back({"Profile", "", std::move(profiles), {}});
    if (!weights.empty()) sections.push_back({"Weights", "", std::move(weights), {}});
    write_text_file(o.out, html_report("vkqat report", sections));
    std::printf("%s\n", o.out.c_str());
}

CLI::App* add(CLI::App& parent, const char* name, const char* description, const char* inputs,
              const std::shared_ptr<Options>& o) {
    CLI::App* command = parent.add_subcommand(name, description);
    command->add_option("INPUT", o->inputs, inputs)->required()->type_name("INPUT...");
    command->add_option("--out", o->out, "the picture: .svg, or .png (needs rsvg-convert)")->required()->type_name("FILE");
    command->add_option("--theme", o->theme, "light, dark, or auto: as the reader's browser has it")
        ->check(CLI::IsMember({"light", "dark", "auto"}))
        ->type_name("NAME");
    return command;
}

}  // namespace

void add_plot_command(CLI::App& app) {
    CLI::App* command = app.add_subcommand("plot", "pictures of runs, results, models and profiles: SVG, PNG, or an HTML report");
    command->require_subcommand(1);
    auto options = [] { return std::make_shared<Options>(); };
    const char* results = "folders of sweeps, or files of `vkqat eval --json`";

    auto o = options();
    CLI::App* loss = add(*command, "loss", "loss curves of runs", "folders of runs, or their metrics.jsonl", o);
    loss->add_option("--x", o->x, "steps or tokens")->check(CLI::IsMember({"steps", "tokens"}))->type_name("NAME");
    loss->callback([o] { write(*o, loss_figure({o->inputs.begin(), o->inputs.end()}, o->x == "tokens")); });

    o = options();
    CLI::App* quality = add(*command, "quality", "quality against memory, with the Pareto front", results, o);
    quality->add_option("--metric", o->metric, "such as perplexity, bits_per_byte, \"hellaswag acc_norm\" (the first there is)")
        ->type_name("NAME");
    quality->add_option("--x", o->x, "bytes, bits (per weight), or speed")
        ->check(CLI::IsMember({"bytes", "bits", "speed"}))
        ->type_name("NAME");
    quality->callback([o] {
        std::vector<ResultPoint> points = results_of(o->inputs);
        write(*o,
              o->x == "speed" ? quality_at_speed_figure(points, o->metric) : quality_figure(points, o->metric, o->x == "bits"));
    });

    o = options();
    CLI::App* speed = add(*command, "speed", "decoded tokens per second against bits", results, o);
    speed->callback([o] { write(*o, speed_figure(results_of(o->inputs))); });

    o = options();
    CLI::App* length = add(*command, "length", "decoded tokens per second over the length of the context",
                           "JSON of `vkqat bench decode --cached`", o);
    length->callback([o] { write(*o, length_figure({o->inputs.begin(), o->inputs.end()})); });

    o = options();
    CLI::App* weights = add(*command, "weights", "weights of a layer, or its centroids and how many weights each has",
                            "models, checkpoints or runs", o);
    weights->add_option("--layer", o->layer, "such as model.layers.0.mlp.up_proj (gate_proj of the middle layer)")
        ->type_name("NAME");
    weights->callback([o] {
        for (size_t i = 0; i < o->inputs.size(); i++) {
            write(*o, weights_figure(o->inputs[i], o->layer), i);
        }
    });

    o = options();
    CLI::App* profile =
        add(*command, "profile", "time by node, memory by part, error by layer", "JSON of `vkqat profile` or `vkqat bench`", o);
    profile->callback([o] {
        size_t number = 0;
        for (const std::string& file : o->inputs)
            for (const Figure& f : json_figures(file)) write(*o, f, number++);
    });

    o = options();
    CLI::App* all = command->add_subcommand("report", "one HTML file with all of it, which needs no network");
    all->add_option("INPUT", o->inputs, "any of these: runs, results, models, profiles")->required()->type_name("INPUT...");
    all->add_option("--out", o->out, "the report: .html")->required()->type_name("FILE");
    all->add_option("--metric", o->metric, "of the results")->type_name("NAME");
    all->add_option("--layer", o->layer, "of the models")->type_name("NAME");
    all->callback([o] { report(*o); });

    command->footer(
        "Examples:\n"
        "  vkqat plot loss run-a run-b --out loss.svg\n"
        "  vkqat plot quality results.jsonl --metric perplexity --out quality.png --theme dark\n"
        "  vkqat plot report run-a results.jsonl 2-bit-model profile.json --out report.html");
}

}  // namespace vkqat

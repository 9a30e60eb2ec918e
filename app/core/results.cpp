#include "app/core/results.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/support/error.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

template <class T>
void get(const json& from, const char* key, T& value) {
    if (auto found = from.find(key); found != from.end() && !found->is_null()) value = found->get<T>();
}

// Absent, null and not finite are the same: the figure is not there.
void take(const json& from, const char* key, ModelResult& to, const std::string& figure) {
    const auto found = from.find(key);
    if (found == from.end() || !found->is_number()) return;
    if (const double value = found->get<double>(); std::isfinite(value)) to.figures[figure] = value;
}

}  // namespace

ModelResult parse_result(const std::string& text, const fs::path& file) {
    ModelResult r;
    try {
        const json j = json::parse(text, [](int depth, json::parse_event_t, json&) {
            if (depth > 64) fail("nested too deeply");
            return true;
        });
        if (!j.is_object() || j.value("format", "") != "vkqat result") fail("is no result of `vkqat profile sweep`");
        if (const int version = j.value("format_version", 1); version != 1)
            fail("has version {}, and this program knows 1", version);
        r.file = file;
        r.name = file.stem().string();
        get(j, "name", r.name);
        get(j, "size", r.size);
        get(j, "method", r.method);
        get(j, "bits", r.bits);
        get(j, "weights", r.weights);
        get(j, "device", r.device);
        std::string model;
        get(j, "model", model);
        if (!model.empty()) {
            // Relative to the sweep's folder, in which this file lies one level deep.
            const fs::path folder =
                file.parent_path().filename() == "results" ? file.parent_path().parent_path() : file.parent_path();
            r.model = (folder / model).lexically_normal();
        }
        take(j, "weight_bytes", r, "bytes");
        take(j, "linear_bits_per_weight", r, "bits per weight");
        take(j, "parameters", r, "parameters");
        take(j, "decode_tokens_per_second", r, "tokens/s");
        take(j, "first_token_seconds", r, "seconds to the first token");
        take(j, "perplexity", r, "perplexity");
        take(j, "mean_nll", r, "nats per token");
        take(j, "bits_per_byte", r, "bits per byte");
        if (auto tasks = j.find("tasks"); tasks != j.end() && tasks->is_array()) {
            double sum = 0;
            int count = 0;
            for (const json& task : *tasks) {
                std::string name;
                get(task, "task", name);
                if (name.empty() || !task.contains("metrics") || !task["metrics"].is_object()) continue;
                const json& metrics = task["metrics"];
                for (const char* metric : {"acc_norm", "acc", "exact_match"}) {
                    if (!metrics.contains(metric)) continue;
                    take(metrics, metric, r, "accuracy: " + name);
                    if (auto found = r.figures.find("accuracy: " + name); found != r.figures.end()) sum += found->second, count++;
                    break;
                }
            }
            if (count) r.figures["mean accuracy"] = sum / count;
        }
        if (auto s = j.find("sensitivity"); s != j.end() && s->is_object() && s->contains("layers"))
            for (const json& l : (*s)["layers"]) {
                LayerFigure figure;
                get(l, "layer", figure.layer);
                get(l, "bits", figure.bits);
                get(l, "bytes", figure.bytes);
                get(l, "error", figure.error);
                r.sensitivity.push_back(std::move(figure));
            }
    } catch (const nlohmann::json::exception& e) {
        fail("{}: {}", file.string(), e.what());
    } catch (const Error& e) {
        fail("{}: {}", file.string(), e.what());
    }
    return r;
}

Results read_results(const fs::path& folder) {
    Results results;
    std::error_code error;
    const fs::path inside = fs::is_directory(folder / "results", error) ? folder / "results" : folder;
    std::vector<fs::path> files;
    fs::directory_iterator at(inside, error);
    if (error) fail("{}: {}", inside.string(), error.message());
    for (fs::directory_iterator end; !error && at != end; at.increment(error))
        if (at->path().extension() == ".json") files.push_back(at->path());
    std::sort(files.begin(), files.end());
    std::set<std::string> figures;
    for (const fs::path& file : files) {
        try {
            results.models.push_back(parse_result(read_text_file(file, size_t(64) << 20), file));
            for (const auto& [name, value] : results.models.back().figures) figures.insert(name);
        } catch (const std::exception& e) {
            results.damaged.push_back(e.what());
        }
    }
    results.figures.assign(figures.begin(), figures.end());
    return results;
}

std::string axis_title(const std::string& figure) {
    if (figure == "bytes") return "bytes of weights on the device";
    if (figure == "bits per weight") return "bits per weight, scales and tables included";
    if (figure == "tokens/s") return "decoded tokens per second";
    return figure;
}

bool larger_is_better(const std::string& figure) { return figure == "tokens/s" || figure.find("accuracy") != figure.npos; }

std::vector<size_t> pareto_front(const std::vector<const ModelResult*>& models, const std::string& x, const std::string& y) {
    struct Point {
        double x, y;
        size_t model;
    };
    const double sign_x = larger_is_better(x) ? -1 : 1, sign_y = larger_is_better(y) ? -1 : 1;
    std::vector<Point> points;  // less is better in both
    for (size_t i = 0; i < models.size(); i++) {
        const auto at_x = models[i]->figures.find(x), at_y = models[i]->figures.find(y);
        if (at_x == models[i]->figures.end() || at_y == models[i]->figures.end()) continue;
        points.push_back({sign_x * at_x->second, sign_y * at_y->second, i});
    }
    std::sort(points.begin(), points.end(),
              [](const Point& a, const Point& b) { return std::tuple(a.x, a.y, a.model) < std::tuple(b.x, b.y, b.model); });
    std::vector<size_t> front;
    double best = INFINITY;
    for (const Point& p : points)
        if (p.y < best) best = p.y, front.push_back(p.model);
    if (sign_x < 0) std::reverse(front.begin(), front.end());
    return front;
}

}  // namespace vkqat

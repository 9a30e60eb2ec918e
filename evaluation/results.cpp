#include "evaluation/results.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "evaluation/sweep.h"
#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace {

using nlohmann::json;

double number_of(const json& row, const char* key) {
    auto found = row.find(key);
    return found != row.end() && found->is_number() ? found->get<double>() : 0;
}

ResultPoint point_of(const json& row) {
    if (!row.is_object() || !row.contains("model") || !row["model"].is_string()) fail("expected objects with \"model\"");
    ResultPoint p;
    std::filesystem::path path = row["model"].get<std::string>();
    if (!path.has_filename()) path = path.parent_path();
    p.name = row.contains("name") && row["name"].is_string() ? row["name"].get<std::string>() : path.filename().string();
    if (row.contains("method") && row["method"].is_string()) {
        p.group = row["method"].get<std::string>();
    } else if (row.contains("weights") && row["weights"].is_string()) {
        p.group = row["weights"].get<std::string>();
        p.group = p.group.substr(0, p.group.find(' '));
    }
    p.bytes = number_of(row, "weight_bytes");
    p.bits = number_of(row, "linear_bits_per_weight");
    p.parameters = number_of(row, "parameters");
    p.training_tokens = number_of(row, "training_tokens");
    p.decode_rate = number_of(row, "decode_tokens_per_second");
    for (auto [key, name] : {std::pair("perplexity", "perplexity"), {"mean_nll", "nll"}, {"bits_per_byte", "bits_per_byte"}})
        if (double value = number_of(row, key); value > 0) p.metrics[name] = value;
    if (row.contains("texts") && row["texts"].is_array() && row["texts"].size() > 1)
        for (const json& text : row["texts"])
            if (text.is_object() && text.contains("text") && text["text"].is_string())
                for (const char* key : {"perplexity", "bits_per_byte"})
                    if (double value = number_of(text, key); value > 0)
                        p.metrics[text["text"].get<std::string>() + " " + key] = value;
    for (const char* list : {"tasks", "groups"}) {
        if (!row.contains(list) || !row[list].is_array()) continue;
        for (const json& task : row[list]) {
            if (!task.is_object() || !task.contains("metrics") || !task["metrics"].is_object() || !task.contains("task"))
                continue;
            const std::string name = task["task"].is_string() ? task["task"].get<std::string>() : "";
            for (auto& [metric, value] : task["metrics"].items()) {
                if (!value.is_number()) continue;
                if (metric.ends_with("_stderr"))
                    p.errors[name + " " + metric.substr(0, metric.size() - 7)] = value.get<double>();
                else
                    p.metrics[name + " " + metric] = value.get<double>();
            }
        }
    }
    return p;
}

std::vector<ResultPoint> read_file(const std::filesystem::path& file) {
    return in_context(file.string(), [&] {
        const std::string text = read_text_file(file, size_t(64) << 20);
        std::vector<ResultPoint> points;
        if (file.extension() == ".jsonl") {
            size_t number = 0;
            for (size_t at = 0; at < text.size();) {
                const size_t end = std::min(text.find('\n', at), text.size());
                const std::string_view line = std::string_view(text).substr(at, end - at);
                at = end + 1;
                number++;
                if (line.find_first_not_of(" \r") == line.npos) continue;
                const std::string where = fmt::format("line {}", number);
                json row = parse_json(line, where);
                points.push_back(in_context(where, [&] { return point_of(row); }));
            }
        } else {
            json all = parse_json(text, "JSON");
            if (all.is_object() && all.contains("models") && all["models"].is_array())
                for (const json& row : all["models"]) points.push_back(point_of(row));
            else
                points.push_back(point_of(all));
        }
        if (points.empty()) fail("holds no results");
        return points;
    });
}

}  // namespace

std::vector<ResultPoint> read_results(const std::filesystem::path& path) {
    if (!std::filesystem::is_directory(path)) return read_file(path);
    std::vector<ResultPoint> points;
    for (const std::filesystem::path& file : result_files(path))
        for (ResultPoint& p : read_file(file)) points.push_back(std::move(p));
    if (points.empty()) fail("{}: expected a sweep's results, {}/results/NAME.json", path.string(), path.string());
    return points;
}

std::string choose_metric(const std::vector<ResultPoint>& points, std::string metric) {
    if (metric.empty())
        for (const ResultPoint& p : points) {
            if (p.metrics.empty()) continue;
            metric = p.metrics.contains("perplexity") ? "perplexity" : p.metrics.begin()->first;
            break;
        }
    if (std::none_of(points.begin(), points.end(), [&](const ResultPoint& p) { return p.metrics.contains(metric); })) {
        std::string known;
        for (const ResultPoint& p : points)
            for (auto& [name, value] : p.metrics)
                if (known.find(name) == known.npos) known += (known.empty() ? "" : ", ") + name;
        fail("no result has the figure '{}'; there are: {}", metric, known.empty() ? "none" : known);
    }
    return metric;
}

bool more_is_better(const std::string& metric) {
    return metric.find("acc") != metric.npos || metric.find("match") != metric.npos;
}

std::vector<size_t> pareto_front(const std::vector<double>& cost, const std::vector<double>& value, bool more) {
    std::vector<size_t> order;
    for (size_t i = 0; i < std::min(cost.size(), value.size()); i++)
        if (std::isfinite(cost[i]) && std::isfinite(value[i])) order.push_back(i);
    auto better = [&](double a, double b) { return more ? a > b : a < b; };
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return cost[a] != cost[b] ? cost[a] < cost[b] : better(value[a], value[b]); });
    std::vector<size_t> front;
    for (size_t i : order)
        if (front.empty() || better(value[i], value[front.back()])) front.push_back(i);
    return front;
}

}  // namespace vkqat

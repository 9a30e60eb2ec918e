// A folder of results of `vkqat profile sweep` (docs/evaluation.md): memory against quality.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace vkqat {

struct LayerFigure {
    std::string layer;
    int bits = 0;
    double bytes = 0, error = 0;  // error: nats per token
};

struct ModelResult {
    std::filesystem::path file, model;  // model: its folder; empty where it was not kept
    std::string name, size, method, weights, device;
    double bits = 0;
    std::map<std::string, double> figures;  // by the names below
    std::vector<LayerFigure> sensitivity;
    std::vector<std::pair<std::string, double>> memory_by_layer;
};

struct Results {
    std::vector<ModelResult> models;
    std::vector<std::string> damaged;  // files that could not be read, each with the reason
    std::vector<std::string> figures;  // all that any model has, sorted
};

// Reads FOLDER/results/*.json, or FOLDER/*.json where there is no such folder. Damaged files are left out and named.
Results read_results(const std::filesystem::path& folder);
ModelResult parse_result(const std::string& json, const std::filesystem::path& file);

// What is plotted: "bytes", "bits per weight", "tokens/s", "perplexity", "bits per byte", "mean accuracy", "accuracy: TASK".
std::string axis_title(const std::string& figure);
bool larger_is_better(const std::string& figure);

// The models, by number, that no other one beats in both figures, ordered by x. Models without one of the figures are left out.
std::vector<size_t> pareto_front(const std::vector<const ModelResult*>& models, const std::string& x, const std::string& y);

}  // namespace vkqat

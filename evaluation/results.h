// Results of `vkqat eval --json` and of sweeps as points that plots and fits take; which of them are worth their memory.
#pragma once

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace vkqat {

struct ResultPoint {
    std::string name;
    std::string group;  // of points that belong together: the method ("nonlinear 2 bits" -> "nonlinear"); may be empty
    double bytes = 0;   // of all weights on the device; 0: not known
    double bits = 0;    // per weight of the linear layers; 0: not known
    double parameters = 0, training_tokens = 0;  // of a sweep; 0: not known
    double decode_rate = 0;                      // tokens per second
    std::map<std::string, double> metrics;       // perplexity, nll, bits_per_byte; "hellaswag acc", ...
    std::map<std::string, double> errors;        // their standard errors, where known
};

// A file that `vkqat eval --json` printed, one of a sweep's results, lines of such objects (.jsonl), or a folder of a sweep.
// Error naming the file if it is none of them.
std::vector<ResultPoint> read_results(const std::filesystem::path& path);

// The metric of that name, of an empty one perplexity, else the first that there is. Error if no point has it.
std::string choose_metric(const std::vector<ResultPoint>& points, std::string metric);

// Whether more of a figure is better: of accuracies and exact matches; less of perplexities, nats and bits.
bool more_is_better(const std::string& metric);

// The points that no other beats: none has cost at most as high and a value at least as good, and one of them better. Their
// places by rising cost; of equal points the first. Points without either (not finite) are never among them.
std::vector<size_t> pareto_front(const std::vector<double>& cost, const std::vector<double>& value, bool more_is_better);

}  // namespace vkqat

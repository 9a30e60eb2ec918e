// metrics.jsonl of a run: one JSON object per line, in the order of the steps.
//
//   {"step": 20, "loss": 5.1, "learning_rate": 3e-4, "gradient_norm": 1.2, "quantized": true, "tokens": 20480, "epoch": 0,
//    "skipped_steps": 0, "tokens_per_second": 900, "flops_per_second": 1e9, "memory_bytes": 1000000, "seconds": 22.8}
//    (several datasets: "epochs": [0, 2] as well)
//   {"step": 20, "validation_loss": 4.9, "validation_tokens": 5000}
//   {"step": 21, "skipped": true, "loss": null, "gradient_norm": null}     null: not finite
//   {"step": 90, "outlier": "gradient_norm", "value": 41.0, "median": 1.1, "deviations": 35.2}     outliers.h
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "trainer/append_file.h"
#include "trainer/outliers.h"

namespace vkqat {

struct StepMetrics {
    int64_t step = 0;
    double loss = 0;  // nats per token
    double learning_rate = 0, gradient_norm = 0;
    bool quantized = false;
    int64_t tokens = 0;            // read since the beginning of the run
    uint64_t epoch = 0;            // how often the whole corpus has been read
    std::vector<uint64_t> epochs;  // of each dataset
    int64_t skipped_steps = 0;     // since the beginning of the run
    double tokens_per_second = 0, flops_per_second = 0;
    uint64_t memory_bytes = 0;
    double seconds = 0;  // since this program began to train
};

class MetricsFile {
public:
    // Opens the file for appending. What it says of steps behind `last_step`, or an unfinished line, is cut off first.
    MetricsFile(const std::filesystem::path& path, int64_t last_step);

    void add(const StepMetrics& metrics);
    void add_validation(int64_t step, double loss, int64_t tokens);
    void add_skip(int64_t step, double loss, double gradient_norm);
    void add_outlier(int64_t step, const std::string& of, const Outlier& outlier);
    void sync() { file_.sync(); }  // all to the disk; Error if that fails. May be called from another thread

private:
    AppendFile file_;
};

}  // namespace vkqat

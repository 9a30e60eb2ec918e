// metrics.jsonl of a run: one JSON object per line, in the order of the steps.
//
//   {"step": 20, "loss": 5.1, "learning_rate": 3e-4, "gradient_norm": 1.2, "quantized": true, "tokens": 20480, "epoch": 0,
//    "skipped_steps": 0, "tokens_per_second": 900, "flops_per_second": 1e9, "memory_bytes": 1000000, "seconds": 22.8}
//   {"step": 20, "validation_loss": 4.9, "validation_tokens": 5000}
//   {"step": 21, "skipped": true, "loss": null, "gradient_norm": null}     null: not finite
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>

namespace vkqat {

struct StepMetrics {
    int64_t step = 0;
    double loss = 0;  // nats per token
    double learning_rate = 0, gradient_norm = 0;
    bool quantized = false;
    int64_t tokens = 0;         // read since the beginning of the run
    uint64_t epoch = 0;         // how often the whole corpus has been read
    int64_t skipped_steps = 0;  // since the beginning of the run
    double tokens_per_second = 0, flops_per_second = 0;
    uint64_t memory_bytes = 0;
    double seconds = 0;  // since this program began to train
};

// A full disk ends no training: lines wait in memory until there is room.
class MetricsFile {
public:
    // Opens the file for appending. What it says of steps behind `last_step`, or an unfinished line, is cut off first.
    MetricsFile(const std::filesystem::path& path, int64_t last_step);
    ~MetricsFile();
    MetricsFile(const MetricsFile&) = delete;
    MetricsFile& operator=(const MetricsFile&) = delete;

    void add(const StepMetrics& metrics);
    void add_validation(int64_t step, double loss, int64_t tokens);
    void add_skip(int64_t step, double loss, double gradient_norm);
    void sync();  // all to the disk; Error if that fails. May be called from another thread

private:
    void write(const std::string& line);
    bool flush();
    std::filesystem::path path_;
    std::mutex mutex_;
    std::string pending_;  // what a full disk did not take: tried again with the next line
    int fd_ = -1;
};

}  // namespace vkqat

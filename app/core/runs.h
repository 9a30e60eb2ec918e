// Training runs, watched through their folders: what `vkqat train` writes into metrics.jsonl, read as it grows.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace vkqat {

enum class Curve { loss, validation, learning_rate, gradient_norm, tokens_per_second, memory };
inline constexpr size_t curve_count = 6;
const char* curve_name(Curve curve);

struct CurvePoint {
    double step, value;
};

struct Run {
    std::filesystem::path folder;
    std::string name;
    std::array<std::vector<CurvePoint>, curve_count> curves;  // by step; a step that is said again replaces what came after
    int64_t step = 0, steps = 0;                              // steps: of config.toml, 0 where it does not say
    int64_t tokens = 0, skipped = 0;
    double seconds = 0;
    std::string error;    // of what is in the file
    int64_t changed = 0;  // when the file last grew, seconds since 1970

    const std::vector<CurvePoint>& curve(Curve c) const { return curves[size_t(c)]; }

private:
    friend bool update_run(Run& run);
    uint64_t read_ = 0;  // bytes of the file that are in the curves
};

// Folders with a metrics.jsonl: this one, or those in it, two levels deep.
std::vector<std::filesystem::path> find_runs(const std::filesystem::path& folder);
Run open_run(const std::filesystem::path& folder);  // update_run() then reads it
// Reads some of what the file has grown by, whole lines only; from its beginning when it has shrunk. True if there was anything:
// there may be more.
bool update_run(Run& run);

// An exponential moving average, `weight` of what came before: 0 .. 1, corrected at the beginning.
std::vector<CurvePoint> smoothed(const std::vector<CurvePoint>& points, double weight);
// At most about `count` points that show the same on a screen: the lowest and the highest of each stretch.
std::vector<CurvePoint> thinned(const std::vector<CurvePoint>& points, size_t count);

// `vkqat train` as a process of its own.
class TrainProcess {
public:
    TrainProcess() = default;
    ~TrainProcess() = default;  // it goes on without this program
    TrainProcess(const TrainProcess&) = delete;
    TrainProcess& operator=(const TrainProcess&) = delete;

    // Starts `program train CONFIG ARGUMENTS...` in the configuration's folder, from which its relative paths count; its output
    // goes to `log`. Error if it cannot.
    void start(const std::filesystem::path& program, const std::filesystem::path& config,
               const std::vector<std::string>& arguments, const std::filesystem::path& log);
    void stop();  // SIGINT: it finishes its step and writes a checkpoint
    // Whether it runs; its exit status is in `exit_code` afterwards (negative: the signal that ended it).
    bool running();
    int exit_code = 0;
    std::filesystem::path config, log;

private:
    pid_t pid_ = -1;
};

// Where a training with this configuration and these arguments will write; empty where neither says.
std::filesystem::path dump_folder(const std::filesystem::path& config, const std::vector<std::string>& arguments);

// The program `vkqat` beside this one, else the one that PATH finds.
std::filesystem::path vkqat_program();

}  // namespace vkqat

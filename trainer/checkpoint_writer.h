// Checkpoints written beside the training: the arrays are copied to host memory between two steps, and a thread of its own brings
// them to the disk.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "trainer/checkpoint.h"

namespace vkqat {

// How the writing of one checkpoint ended.
struct CheckpointResult {
    int64_t step = 0;
    std::filesystem::path path;
    std::string error;         // empty: it is there
    double seconds = 0;        // that the disk took
    double stall_seconds = 0;  // that the training stood still for it
};

class CheckpointWriter {
public:
    // `before`: done before each one is written, on the thread that writes; an Error of it counts as the checkpoint's.
    // `asynchronous`: false writes while the training waits. So does true, with a line to `say`, where the host has too little
    // free memory for a copy of the weights and moments.
    CheckpointWriter(const RunSettings& settings, const ParameterStore& parameters, const TrainingStep& training,
                     bool asynchronous, std::function<void()> before, const Say& say);
    ~CheckpointWriter();  // finishes what has begun
    CheckpointWriter(const CheckpointWriter&) = delete;
    CheckpointWriter& operator=(const CheckpointWriter&) = delete;

    // Begins to write the state behind a step. Nothing may be under way: wait() before.
    void begin(const TrainState& state);
    // What has ended since the last call; nothing while it is under way or if nothing has begun.
    std::optional<CheckpointResult> poll();
    // The same, but waits for the end.
    std::optional<CheckpointResult> wait();
    bool asynchronous() const { return asynchronous_; }

private:
    template <class Write>
    void write(const Write& write_files);

    const RunSettings& settings_;
    const ParameterStore& parameters_;
    const TrainingStep& training_;
    bool asynchronous_;
    std::function<void()> before_;
    CheckpointSnapshot snapshot_;
    std::thread thread_;
    std::atomic<bool> ended_ = false;
    std::optional<CheckpointResult> result_;  // the thread's, until it has ended
};

}  // namespace vkqat

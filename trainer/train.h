// The training loop: from a configuration to checkpoints and metrics.
//
// Below job.dump_folder lie config.toml (the effective configuration), metrics.jsonl (metrics.h), the folder of checkpoints
// (checkpoint.h), and cache/ with the tokenized corpus; tensorboard/ and traces/ where they are wanted (tensorboard.h, trace.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "trainer/checkpoint.h"
#include "trainer/communicator.h"
#include "trainer/config.h"

namespace vkqat {

// Where the run's text goes.
struct TrainOutput {
    Say line;      // one line, to stay
    Say progress;  // a line that the next one replaces; empty where there is no terminal
};

struct TrainOptions {
    bool resume = false;                                         // go on from the latest checkpoint in dump_folder
    std::string resume_command = "vkqat train CONFIG --resume";  // what messages name to go on with
    // Asked before the first step and behind every one: true ends the run with a checkpoint.
    std::function<bool()> stop;
    // Called before a step is run, for tests.
    std::function<void(int64_t step, ParameterStore&)> before_step;
    // The processes that train together: each draws its share of every step's windows, and rank 0 writes. nullptr: this one is
    // alone. Where one of them is asked to stop, all stop.
    Communicator* ranks = nullptr;
};

struct TrainResult {
    int64_t step = 0;       // last step done
    bool finished = false;  // false: stopped
    double loss = 0;        // of the last step, nats per token
    int64_t skipped = 0;    // steps left out because loss or gradient was not finite
};

// The precision of the matrix products. auto: bf16 where the device has matrix units for it (a CPU only imitates them), else fp16
// with a dynamic scale of the loss where it has those, else fp32. Error: bf16 or fp16 on a device without.
Precision choose_precision(std::string_view name, const Capabilities& device);
// The type of the weights that products of this precision read.
DType weight_type(Precision precision);

// Trains. Same configuration, device and version: same bits, also when the run was stopped and resumed in between.
// Error: dump_folder holds a run and `resume` is not set, or the other way round; another run is at work in it; the model in the
// checkpoint is another one; an empty corpus; a tokenizer that does not fit; too little memory; the last checkpoint cannot be
// written (an earlier one that fails is reported and tried again); more than max_consecutive_skips steps in a row whose loss or
// gradient is not finite.
TrainResult train(Device& device, const TrainConfig& config, const TrainOptions& options, const TrainOutput& output);

}  // namespace vkqat

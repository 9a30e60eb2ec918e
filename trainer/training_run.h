// One training at work, from its configuration to its last step: what train() is made of.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/support/clock.h"
#include "runtime/text/tokenizer.h"
#include "trainer/checkpoint_writer.h"
#include "trainer/metrics.h"
#include "trainer/outliers.h"
#include "trainer/run_folder.h"
#include "trainer/tensorboard.h"
#include "trainer/trace.h"
#include "trainer/train.h"
#include "trainer/validation.h"

namespace vkqat {

// One run: set up by its constructor (training_run.cpp), then its steps (train.cpp).
class TrainingRun {
public:
    TrainingRun(Device& device, const TrainConfig& config, const TrainOptions& options, const TrainOutput& output);
    TrainResult train();

private:
    // The windows of one step, and the place in the data behind them.
    struct Drawn {
        std::vector<Batch> batches;
        DataPosition after;
    };

    void say(const std::string& text) const {
        if (output_.line) output_.line(text);
    }
    void set_up_ranks();
    void check_same_weights(const char* when) const;
    bool asked_to_stop() const { return ranks_.any(options_.stop && options_.stop()); }
    void set_up_text();
    void set_up_examples(const Tokenizer& tokenizer);
    void say_examples(const std::vector<WeightedTokens>& datasets) const;
    void set_up_model();
    std::shared_ptr<Teacher> teacher();
    std::shared_ptr<TeacherCache> teacher_cache();
    void say_memory();
    int64_t resume();
    Drawn draw();
    void update_quantization(int64_t step);
    void validate(int64_t step);
    void save();
    void report(const std::optional<CheckpointResult>& result);
    void finish_checkpoints();
    void report_skip(int64_t step);
    std::string step_line(const StepMetrics& m, double seconds_left) const;
    void take_step(int64_t step);
    void report_epochs(const DataPosition& before);
    void judge(const char* of, OutlierWatch& watch, double value);
    void log_step();
    void begin_profile();
    void end_profile();
    std::shared_ptr<const TokenCache> tokens(const std::vector<std::string>& patterns, const std::string& separator) const;

    Device& device_;
    const TrainConfig& config_;
    const TrainOptions& options_;
    const TrainOutput& output_;
    std::unique_ptr<Communicator> alone_;
    Communicator& ranks_;
    int64_t micro_steps_ = 1;
    Precision precision_;
    RunSettings settings_;
    TextEncoder encoder_;
    BatchOptions batch_options_;
    std::vector<WeightedTokens> datasets_;
    std::unique_ptr<BatchSource> source_;
    std::shared_ptr<const TokenCache> validation_tokens_;
    std::unique_ptr<ParameterStore> parameters_;
    std::shared_ptr<Teacher> teacher_;  // none: labels are learnt
    std::unique_ptr<TrainingStep> training_;
    std::unique_ptr<MetricsFile> metrics_;
    std::unique_ptr<TensorboardFile> tensorboard_;  // none: not wanted
    OutlierWatch losses_, gradient_norms_;
    Trace trace_;
    Drawn next_;                // of the step after this one
    double learning_rate_ = 0;  // of this step
    Clock::time_point start_;
    double window_seconds_ = 0;  // of the steps since the last line of the log
    int64_t window_steps_ = 0;
    TrainState state_;
    LearningRateSchedule schedule_;
    uint64_t memory_bytes_ = 0;
    std::unique_ptr<CheckpointWriter> writer_;  // none: checkpoints are off
    // Steps of the checkpoint begun last, of the newest that is whole, and at which a failed one is tried again; -1: none.
    int64_t begun_ = -1, saved_ = -1, again_ = -1;
};

}  // namespace vkqat

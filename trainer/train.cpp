#include "trainer/train.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/ops/matmul.h"
#include "runtime/support/error.h"
#include "trainer/readable.h"
#include "trainer/training_run.h"

namespace vkqat {
namespace fs = std::filesystem;

TrainingRun::Drawn TrainingRun::draw() {
    Drawn drawn;
    for (int64_t i = 0; i < micro_steps_; i++) {
        drawn.batches.push_back(source_->next());
        if (teacher_) teacher_->read(drawn.batches.back());
    }
    drawn.after = source_->position();
    return drawn;
}

// METHODS 1: on from qat_start_step, with a first fit; fitted again at multiples of buffer_update_interval.
void TrainingRun::update_quantization(int64_t step) {
    const QuantizationSection& q = config_.quantization;
    if (q.quantizer == "none" || step < q.qat_start_step) return;
    const bool first = !state_.quantized;
    if (!first && (q.buffer_update_interval == 0 || step % q.buffer_update_interval != 0)) return;
    training_->set_quantized(true);
    training_->fit_centroids(step);
    state_.quantized = true;
    check_same_weights("k-means fit");
    if (first) {
        // Another loss is to be expected from here on.
        state_.best_step = -1;
        losses_.restore({});
        gradient_norms_.restore({});
        say(fmt::format("step {}: quantization is on", step));
    }
}

void TrainingRun::validate(int64_t step) {
    BatchOptions options = batch_options_;  // the same batches, whatever the number of ranks
    options.rank = 0, options.world_size = 1;
    const auto [loss, tokens] = validation_loss(*training_, validation_tokens_, options, config_.validation.steps, ranks_);
    if (metrics_) metrics_->add_validation(step, loss, tokens);
    if (tensorboard_) tensorboard_->add(step, std::array{Scalar{"loss/validation", loss}});
    say(fmt::format("step {}: validation loss {:.4f}, perplexity {:.3f} ({} tokens)", step, loss, std::exp(loss), tokens));
    if (!config_.checkpoint.keep_best || !std::isfinite(loss) || (state_.best_step >= 0 && loss >= state_.best_loss)) return;
    state_.best_step = step;
    state_.best_loss = loss;
}

// Of the state now. Training goes on while it is written.
void TrainingRun::save() {
    check_same_weights("before a checkpoint");
    begun_ = state_.step;
    if (writer_) report(writer_->wait());
    parameters_->gather_moments(ranks_);
    if (!writer_) return;  // another rank writes
    writer_->begin(state_);
    parameters_->drop_gathered();
    report(writer_->poll());
}

void TrainingRun::report(const std::optional<CheckpointResult>& result) {
    if (!result) return;
    if (result->error.empty()) {
        saved_ = result->step;
        say(fmt::format("step {}: checkpoint {} ({:.1f} s, the training stood still for {:.1f} s)", result->step,
                        result->path.string(), result->seconds, result->stall_seconds));
        return;
    }
    again_ = state_.step + std::max<int64_t>(1, config_.checkpoint.interval / 10);
    std::string text = fmt::format("step {}: the checkpoint failed: {}; ", result->step, result->error);
    text += saved_ < 0 ? "there is none yet" : fmt::format("that of step {} is whole", saved_);
    if (again_ <= config_.training.steps) text += fmt::format("; the training goes on and tries again behind step {}", again_);
    say(text);
}

// At the end of a run: the checkpoint of the last step is there, or it is an Error.
void TrainingRun::finish_checkpoints() {
    if (!config_.checkpoint.enable) return;
    if (begun_ != state_.step && state_.step > 0) save();
    if (!writer_) return;
    report(writer_->wait());
    if (saved_ != state_.step && state_.step > 0)
        fail("the checkpoint of step {}, the last one, could not be written ({}); when there is room, go on with: {}",
             state_.step, saved_ < 0 ? "there is none" : fmt::format("that of step {} is whole", saved_),
             options_.resume_command);
}

void TrainingRun::report_skip(int64_t step) {
    const AdamwState& s = state_.optimizer;
    if (metrics_) metrics_->add_skip(step, s.loss, s.gradient_norm);
    say(fmt::format("step {}: skipped, loss {} and gradient norm {} are not both finite ({} skipped so far)", step, s.loss,
                    s.gradient_norm, s.skipped));
    if (int64_t(s.consecutive_skipped) > config_.training.max_consecutive_skips)
        fail(
            "step {}: {} steps in a row had a loss or gradient that is not finite (now loss {}, gradient norm {}), more than "
            "training.max_consecutive_skips = {}: resume from the last checkpoint with a lower optimizer.lr",
            step, s.consecutive_skipped, s.loss, s.gradient_norm, config_.training.max_consecutive_skips);
}

std::string TrainingRun::step_line(const StepMetrics& m, double seconds_left) const {
    return fmt::format("step {:>6}/{}  loss {:.4f}  lr {:.2e}  grad norm {:.3f}  {} tok/s  {}FLOP/s  {}B  {} left", m.step,
                       config_.training.steps, m.loss, m.learning_rate, m.gradient_norm, metric(m.tokens_per_second),
                       metric(m.flops_per_second), metric(double(m.memory_bytes)), duration_text(seconds_left));
}

// A dataset that has been read to its end begins again; said when it has been read 1, 2, 4, 8, ... times.
void TrainingRun::report_epochs(const DataPosition& before) {
    for (size_t i = 0; i < state_.data.streams.size(); i++) {
        const uint64_t epoch = state_.data.streams[i].epoch;
        if (epoch > before.streams[i].epoch && std::has_single_bit(epoch))
            say(fmt::format("step {}: {} has been read {}, and begins again", state_.step, config_.training_datasets()[i].path[0],
                            epoch == 1 ? "once" : fmt::format("{} times", epoch)));
    }
}

void TrainingRun::judge(const char* of, OutlierWatch& watch, double value) {
    const std::optional<Outlier> outlier = watch.add(value);
    if (!outlier) return;
    if (metrics_) metrics_->add_outlier(state_.step, of, *outlier);
    say(fmt::format("step {}: {} {:.4g} stands out: {:.1f} deviations above the median {:.4g} of the steps before", state_.step,
                    of, outlier->value, outlier->deviations, outlier->median));
}

void TrainingRun::begin_profile() {
    trace_.begin();
    training_->set_profile_sink(
        [this](const std::string& recording, const std::vector<ProfileRow>& rows) { trace_.gpu(recording, rows); });
}

void TrainingRun::end_profile() {
    training_->set_profile_sink({});
    const fs::path file =
        fs::path(config_.job.dump_folder) / config_.profiling.folder / fmt::format("step-{:08}.json", state_.step);
    try {
        trace_.end(file, fmt::format("vkqat train, step {} on {}", state_.step, device_.capabilities().name));
        say(fmt::format("step {}: trace {} (measured node by node, which took longer than a step does)", state_.step,
                        file.string()));
    } catch (const Error& e) {
        say(fmt::format("step {}: no trace: {}", state_.step, e.what()));  // no reason to end a training
    }
}

void TrainingRun::take_step(int64_t step) {
    const Clock::time_point step_start = Clock::now();
    const Drawn now = std::move(next_);
    trace_.cpu("fit centroids", [&] { update_quantization(step); });
    if (const QuantizationSection& q = config_.quantization; state_.quantized && q.switch_on_steps > 0) {
        const int64_t done = step - std::max<int64_t>(q.qat_start_step, 1) + 1;
        training_->set_strength(std::min(1.0, double(done) / double(q.switch_on_steps)));
    }
    if (options_.before_step) options_.before_step(step, *parameters_);
    learning_rate_ = schedule_.at(step);
    training_->set_weight_decay(schedule_.in_second_stage(step) ? config_.optimizer.second_stage_weight_decay
                                                                : config_.optimizer.weight_decay);
    trace_.cpu("inputs and submission", [&] { training_->run(now.batches, learning_rate_); });
    if (step < config_.training.steps) next_ = trace_.cpu("data", [&] { return draw(); });  // while the device works
    state_.optimizer = trace_.cpu("wait", [&] { return training_->state(); });
    const DataPosition before = std::exchange(state_.data, now.after);
    state_.step = step;
    window_seconds_ += seconds_since(step_start);
    window_steps_++;
    report_epochs(before);
    if (state_.optimizer.skip) {
        report_skip(step);
        return;
    }
    judge("loss", losses_, state_.optimizer.loss);
    judge("gradient_norm", gradient_norms_, state_.optimizer.gradient_norm);
    state_.recent_losses = losses_.values();
    state_.recent_gradient_norms = gradient_norms_.values();
}

void TrainingRun::log_step() {
    const int64_t step = state_.step, steps = config_.training.steps,
                  step_tokens = config_.global_batch_size() * config_.training.seq_len;
    const bool log = step % config_.metrics.log_freq == 0 || step == steps || step == 1;
    if (!metrics_ || (!log && !output_.progress)) return;
    const double rate = double(window_steps_ * step_tokens) / std::max(window_seconds_, 1e-9);
    StepMetrics m{.step = step,
                  .loss = state_.optimizer.loss,
                  .learning_rate = learning_rate_,
                  .gradient_norm = state_.optimizer.gradient_norm,
                  .quantized = state_.quantized,
                  .tokens = int64_t(state_.data.windows) * config_.training.seq_len,
                  .epoch = state_.data.epoch(),
                  .skipped_steps = state_.optimizer.skipped,
                  .tokens_per_second = rate,
                  .flops_per_second = rate * llama_training_flops(settings_.model, config_.training.seq_len),
                  .memory_bytes = memory_bytes_,
                  .seconds = seconds_since(start_)};
    for (const StreamPosition& stream : state_.data.streams) m.epochs.push_back(stream.epoch);
    const std::string line = step_line(m, double((steps - step) * step_tokens) / rate);
    if (!log) {
        output_.progress(line);
        return;
    }
    metrics_->add(m);
    if (tensorboard_)
        tensorboard_->add(step, std::array{Scalar{"loss/train", m.loss}, Scalar{"optimizer/learning_rate", m.learning_rate},
                                           Scalar{"optimizer/gradient_norm", m.gradient_norm},
                                           Scalar{"speed/tokens_per_second", m.tokens_per_second},
                                           Scalar{"speed/memory_bytes", double(m.memory_bytes)}});
    say(line);
    window_seconds_ = 0;
    window_steps_ = 0;
}

TrainResult TrainingRun::train() {
    const int64_t steps = config_.training.steps, first = state_.step;
    const std::vector<int64_t>& profiled = config_.profiling.steps;
    start_ = Clock::now();
    bool stopped = asked_to_stop();
    if (first >= steps) say(fmt::format("the run is complete: {} of {} steps are done", first, steps));

    if (!stopped && first < steps) next_ = draw();
    for (int64_t step = first + 1; step <= steps && !stopped; step++) {
        const bool profile =
            ranks_.first() && config_.profiling.enable && std::find(profiled.begin(), profiled.end(), step) != profiled.end();
        if (profile) begin_profile();
        take_step(step);
        trace_.cpu("log", [&] { log_step(); });
        if (config_.validation.enable && (step % config_.validation.freq == 0 || step == steps))
            trace_.cpu("validation", [&] { validate(step); });
        stopped = asked_to_stop();
        if (writer_) report(writer_->poll());
        if (config_.checkpoint.enable &&
            (step % config_.checkpoint.interval == 0 || step == steps || step == state_.best_step || ranks_.any(step == again_)))
            trace_.cpu("checkpoint", [&] { save(); });
        if (profile) end_profile();
    }
    finish_checkpoints();
    if (ranks_.size() > 1 && state_.step > first)
        say(fmt::format("gradients   {:.1f} ms of a step were spent on their exchange behind the backward pass",
                        1e3 * training_->exposed_exchange_seconds()));
    if (stopped && state_.step < steps) {
        say(config_.checkpoint.enable
                ? fmt::format("stopped behind step {}; go on with: {}", state_.step, options_.resume_command)
                : fmt::format("stopped behind step {}; checkpoint.enable is false, so nothing was kept", state_.step));
    } else if (state_.step > first) {
        say(fmt::format("done: {} steps in {}, loss {:.4f}{}", state_.step - first, duration_text(seconds_since(start_)),
                        state_.optimizer.loss,
                        state_.optimizer.skipped ? fmt::format(", {} steps skipped", state_.optimizer.skipped) : ""));
    }
    return {.step = state_.step,
            .finished = state_.step >= steps,
            .loss = state_.optimizer.loss,
            .skipped = int64_t(state_.optimizer.skipped)};
}

Precision choose_precision(std::string_view name, const Capabilities& device) {
    const bool bf16 = has_matrix_units(device, Precision::bf16), f16 = has_matrix_units(device, Precision::f16);
    if (name == "fp32") return Precision::f32;
    if (name == "auto")
        return device.kind == DeviceKind::cpu ? Precision::f32 : bf16 ? Precision::bf16 : f16 ? Precision::f16 : Precision::f32;
    if (name != "bf16" && name != "fp16") fail("training.precision: expected auto, fp32, bf16 or fp16, found {}", name);
    if (name == "bf16" ? bf16 : f16) return name == "bf16" ? Precision::bf16 : Precision::f16;
    fail("training.precision: {} has no {} cooperative matrices with fp32 accumulation; choose auto or fp32", device.name, name);
}

DType weight_type(Precision precision) {
    return precision == Precision::bf16 ? DType::bf16 : precision == Precision::f16 ? DType::f16 : DType::f32;
}

TrainResult train(Device& device, const TrainConfig& given, const TrainOptions& options, const TrainOutput& output) {
    TrainConfig config = given;
    validate(config, "configuration");
    if (std::string& initial = config.checkpoint.initial_load_path; is_run(initial)) {
        initial = open_checkpoint(initial, output.line).folder().string();
        if (config.model.tokenizer_path.empty()) config.model.tokenizer_path = (fs::path(initial) / "tokenizer").string();
    }
    if (options.ranks && options.ranks->size() > 1 && config.training.global_batch_size == 0)
        config.training.global_batch_size = config.training.local_batch_size * options.ranks->size();
    if (options.ranks && !options.ranks->first()) {
        options.ranks->barrier();  // rank 0 looks at the folder
        return TrainingRun(device, config, options, output).train();
    }
    check_dump_folder(config, options.resume);
    const fs::path folder = config.job.dump_folder;
    std::error_code error;
    const bool existed = fs::exists(folder, error);
    fs::create_directories(folder, error);
    if (error) fail("{}: cannot create the folder: {}", folder.string(), error.message());
    FolderLock lock(folder);
    try {
        if (options.ranks) options.ranks->barrier();
        return TrainingRun(device, config, options, output).train();
    } catch (...) {
        if (!existed) fs::remove(folder, error);  // where nothing came to be in it
        throw;
    }
}

}  // namespace vkqat

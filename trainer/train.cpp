#include "trainer/train.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include "runtime/formats/model_digest.h"
#include "runtime/ops/matmul.h"
#include "runtime/support/clock.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "runtime/support/hash.h"
#include "trainer/checkpoint_writer.h"
#include "trainer/corpus_reader.h"
#include "trainer/flavors.h"
#include "trainer/metrics.h"
#include "trainer/onebit.h"
#include "trainer/outliers.h"
#include "trainer/readable.h"
#include "trainer/run_folder.h"
#include "trainer/sft_examples.h"
#include "trainer/tensorboard.h"
#include "trainer/tokenizer_files.h"
#include "trainer/trace.h"
#include "trainer/validation.h"

namespace vkqat {
namespace fs = std::filesystem;
namespace {

struct MemoryRow {
    const char* name;
    uint64_t bytes;
};

// One run, set up.
class Run {
public:
    Run(Device& device, const TrainConfig& config, const TrainOptions& options, const TrainOutput& output);
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

Run::Run(Device& device, const TrainConfig& config, const TrainOptions& options, const TrainOutput& output)
    : device_(device),
      config_(config),
      options_(options),
      output_(output),
      alone_(single_rank()),
      ranks_(options.ranks ? *options.ranks : *alone_),
      losses_(config.metrics.outlier_deviations),
      gradient_norms_(config.metrics.outlier_deviations) {
    const Capabilities& caps = device.capabilities();
    precision_ = choose_precision(config.training.precision, caps);
    if (!config.job.description.empty()) say(config.job.description);
    say(fmt::format("device      {} ({}, {})", caps.name, kind_name(caps.kind), caps.driver));
    say(fmt::format("precision   {} matrix products, fp32 weights{} and sums{}",
                    precision_ == Precision::f32 ? "fp32" : name(weight_type(precision_)),
                    config.optimizer.moments == "fp32" ? ", moments" : "",
                    config.optimizer.moments == "fp32" ? "" : ", moments in " + config.optimizer.moments));
    schedule_ = {.peak = config.optimizer.lr,
                 .steps = config.training.steps,
                 .warmup_steps = config.lr_scheduler.warmup_steps,
                 .decay_ratio = config.lr_scheduler.decay_ratio,
                 .decay_type = config.lr_scheduler.decay_type,
                 .min_lr_factor = config.lr_scheduler.min_lr_factor,
                 .second_stage = config.lr_scheduler.second_stage,
                 .second_stage_lr_factor = config.lr_scheduler.second_stage_lr_factor};
    set_up_ranks();
    set_up_text();
    set_up_model();
    int64_t first = resume();
    source_->restore(state_.data);
    say_memory();
    check_same_weights("at the start");  // all have read what there is to read
    if (!ranks_.first()) return;

    // From here on the run leaves traces.
    const fs::path folder = config.job.dump_folder;
    write_text_file(folder / "config.toml", to_toml(config));
    tidy_checkpoints(config.checkpoint_folder(), first, output.line);
    metrics_ = std::make_unique<MetricsFile>(folder / "metrics.jsonl", first);
    if (config.metrics.enable_tensorboard)
        tensorboard_ = std::make_unique<TensorboardFile>(folder / config.metrics.tensorboard_folder, first + 1);
    if (config.checkpoint.enable)
        writer_ = std::make_unique<CheckpointWriter>(
            settings_, *parameters_, *training_, config.checkpoint.async, [this] { metrics_->sync(); }, output.line);
}

std::shared_ptr<const TokenCache> Run::tokens(const std::vector<std::string>& patterns, const std::string& separator) const {
    const CorpusKind kind = config_.fine_tunes() ? CorpusKind::examples : CorpusKind::text;
    return std::make_shared<const TokenCache>(
        tokenize_corpus(corpus_files(patterns, kind),
                        {.separator = separator, .skip_bad_lines = config_.training.dataset_errors == "skip", .kind = kind},
                        encoder_, fs::path(config_.job.dump_folder) / "cache", 0, output_.line, output_.progress));
}

void Run::set_up_ranks() {
    const int64_t windows = config_.global_batch_size(), at_once = config_.training.local_batch_size * ranks_.size();
    if (windows % at_once != 0)
        fail("training.global_batch_size = {} is no multiple of training.local_batch_size = {} times the {} ranks", windows,
             config_.training.local_batch_size, ranks_.size());
    micro_steps_ = windows / at_once;
    if (ranks_.size() > 1) say(fmt::format("ranks       {}, {} of them on this machine", ranks_.size(), ranks_.node_size()));
}

// Ranks drift apart where their devices or their files differ. Collective.
void Run::check_same_weights(const char* when) const {
    if (ranks_.size() == 1) return;
    struct Sample {
        int64_t step;
        uint64_t windows;
        uint32_t weights, centroids;
    };
    Sample mine{state_.step, state_.data.windows, parameters_->sample_checksum(), 0};
    for (size_t layer = 0; layer < training_->quantized_layers().size(); layer++)
        mine.centroids = checksum(std::as_bytes(std::span<const float>(training_->centroids(layer))), mine.centroids);
    const std::vector<std::byte> all = ranks_.all_gather(std::as_bytes(std::span(&mine, 1)));
    for (int r = 0; r < ranks_.size(); r++) {
        Sample other;
        std::memcpy(&other, all.data() + size_t(r) * sizeof other, sizeof other);
        if (other.step != mine.step || other.windows != mine.windows)
            fail("{}: rank {} is at step {}, rank {} at step {}: all ranks need the same files in {}", when, r, other.step,
                 ranks_.rank(), mine.step, config_.job.dump_folder);
        if (other.weights != mine.weights || other.centroids != mine.centroids)
            fail("{}: rank {} has other {} than rank {}: ranks need devices of the same kind, and the same drivers and files",
                 when, r, other.weights != mine.weights ? "weights" : "centroids", ranks_.rank());
    }
}

void Run::set_up_text() {
    settings_.config = config_;
    settings_.tokenizer = config_.tokenizer_path();
    tokenizer_files(settings_.tokenizer);  // an Error now rather than at the first checkpoint
    const Tokenizer tokenizer = load_tokenizer(settings_.tokenizer);
    settings_.model = model_config(config_, int64_t(tokenizer.vocab_size()));
    if (!settings_.model.bos_token_id) settings_.model.bos_token_id = tokenizer.bos();
    if (settings_.model.eos_token_ids.empty() && tokenizer.eos()) settings_.model.eos_token_ids = {*tokenizer.eos()};
    const fs::path generation = fs::path(config_.checkpoint.initial_load_path) / "generation_config.json";
    if (std::error_code error; !config_.checkpoint.initial_load_path.empty() && fs::exists(generation, error))
        settings_.generation_config = read_text_file(generation, 1 << 20);

    if (config_.fine_tunes())
        set_up_examples(tokenizer);
    else
        encoder_ = text_encoder(tokenizer, settings_.tokenizer);
    if (!ranks_.first()) ranks_.barrier();  // rank 0 fills the cache of tokens
    std::vector<WeightedTokens>& datasets = datasets_;
    uint64_t documents = 0, token_count = 0;
    double weights = 0;
    for (const DatasetConfig& dataset : config_.training_datasets()) {
        datasets.push_back({tokens(dataset.path, config_.training.dataset_separator), dataset.weight});
        documents += datasets.back().tokens->documents();
        token_count += datasets.back().tokens->tokens();
        weights += dataset.weight;
    }
    say(fmt::format("text        {} {}, {} tokens ({}, {} ids)", documents, config_.fine_tunes() ? "examples" : "documents",
                    metric(double(token_count)), tokenizer.kind(), tokenizer.vocab_size()));
    for (size_t i = 0; datasets.size() > 1 && i < datasets.size(); i++)
        say(fmt::format("            {:.2f} % of the windows: {} ({} documents, {} tokens)", 100 * datasets[i].weight / weights,
                        config_.training.datasets[i].path[0], datasets[i].tokens->documents(),
                        metric(double(datasets[i].tokens->tokens()))));
    if (config_.fine_tunes())
        say_examples(datasets);
    else if (encoder_.eos_id < 0)
        say("            the tokenizer has no end-of-text token: documents follow each other without one");
    batch_options_ = {.batch_size = config_.training.local_batch_size,
                      .seq_len = config_.training.seq_len,
                      .bos_id = encoder_.bos_id,
                      .eos_id = encoder_.eos_id,
                      .seed = uint64_t(config_.training.seed),
                      .rank = ranks_.rank(),
                      .world_size = ranks_.size(),
                      .examples = config_.fine_tunes()};
    source_ = std::make_unique<BatchSource>(datasets, batch_options_);
    state_.data = source_->position();
    state_.optimizer.beta1_power = state_.optimizer.beta2_power = 1;
    if (config_.validation.enable) validation_tokens_ = tokens(config_.validation.dataset, config_.validation.dataset_separator);
    if (ranks_.first()) ranks_.barrier();
}

// For fine-tuning: encoder and chat template, and the token that ends an answer among those that end a text, so that the exported
// model answers in the format that it has learnt, and stops.
void Run::set_up_examples(const Tokenizer& tokenizer) {
    const fs::path source = config_.sft.chat_template.empty() ? settings_.tokenizer : fs::path(config_.sft.chat_template);
    ChatTemplate chat = load_chat_template(source, tokenizer);
    if (chat.source.empty() && !tokenizer.id("<|start_header_id|>"))
        fail(
            "{}: the tokenizer has neither a chat template nor Llama 3's tokens for turns: name the file of a template by "
            "sft.chat_template",
            settings_.tokenizer.string());
    const bool own = chat.source.empty() || !config_.sft.chat_template.empty();
    if (chat.source.empty()) chat.source = llama3_chat_template;
    if (own) settings_.chat_template = chat.source;
    const ChatEncoder encoder(tokenizer, chat);
    const std::optional<TokenId> end = encoder.turn_end();
    if (!end)
        fail("{}: the chat template ends an answer by no special token, so that nobody would know when the model is done",
             source.string());
    say(fmt::format("answers     end by {}", tokenizer.token(*end)));
    GenerationConfig generation{.bos_token_id = settings_.model.bos_token_id, .eos_token_ids = settings_.model.eos_token_ids};
    if (!settings_.generation_config.empty())
        generation = parse_generation_config(settings_.generation_config, "generation_config.json");
    for (std::vector<int32_t>* ends : {&generation.eos_token_ids, &settings_.model.eos_token_ids})
        if (std::find(ends->begin(), ends->end(), *end) == ends->end()) ends->push_back(*end);
    settings_.generation_config = to_json(generation);
    encoder_ = sft_encoder(encoder, settings_.tokenizer,
                           {.seq_len = config_.training.seq_len, .train_on_prompts = config_.sft.train_on_prompts});
}

void Run::say_examples(const std::vector<WeightedTokens>& datasets) const {
    SftCounts sum;
    for (const WeightedTokens& dataset : datasets) {
        const SftCounts counts = count_examples(*dataset.tokens, config_.training.seq_len);
        sum.trained += counts.trained;
        sum.cut += counts.cut;
    }
    say(fmt::format("            {} tokens are learnt; {} examples are longer than training.seq_len = {} and cut at their end",
                    metric(double(sum.trained)), sum.cut, config_.training.seq_len));
}

void Run::set_up_model() {
    const LlamaConfig& model = settings_.model;
    const QuantizerConfig quantizer = quantizer_config(config_);
    const bool quantize = quantizer.kind != QuantizerKind::none;
    const DType compute = weight_type(precision_);
    auto list = llama_parameters(model, quantize, config_.quantization.ignore_names, quantizer.kind == QuantizerKind::onebit);
    uint64_t count = 0;
    size_t quantized = 0;
    for (const Parameter& p : list) {
        count += uint64_t(p.shape.elements());
        quantized += p.quantized;
    }
    say(fmt::format("model       {} parameters: {} layers, hidden_size {}, {} heads, {} kv_heads, vocabulary {}",
                    metric(double(count)), model.layers, model.hidden_size, model.heads, model.kv_heads, model.vocab_size));
    if (quantize)
        say(fmt::format("quantizer   {}, {} bits, blocks of {} x {}, scale {}: {} layers, from step {}", name(quantizer.kind),
                        quantizer.bits, quantizer.block_dim_1, quantizer.block_dim_2, name(quantizer.scale), quantized,
                        std::max<int64_t>(config_.quantization.qat_start_step, 1)));
    const uint64_t tokens = uint64_t(config_.global_batch_size()) * uint64_t(config_.training.seq_len);
    say(fmt::format("steps       {} of {} tokens ({}{} x {} windows of {})", config_.training.steps, tokens,
                    ranks_.size() > 1 ? fmt::format("{} ranks x ", ranks_.size()) : "", micro_steps_,
                    config_.training.local_batch_size, config_.training.seq_len));

    const auto bucket_bytes = uint64_t(config_.distributed.bucket_mb * 1e6);
    // Before anything is allocated: a driver may promise more memory than there is.
    const MomentSharing sharing{
        .rank = ranks_.rank(), .size = config_.distributed.zero1 ? ranks_.size() : 1, .bucket_bytes = bucket_bytes};
    const DType moment_type = config_.optimizer.moments == "bf16" ? DType::bf16 : DType::f32;
    const uint64_t moments = 2 * bytes(moment_type) * count / uint64_t(sharing.size);
    const uint64_t copies = quantize || compute != DType::f32 ? count * bytes(compute) : 0, needed = 8 * count + moments + copies;
    if (needed > device_.free_memory())
        fail(
            "too little memory on {}: {:.1f} GB for weights, gradients and moments ({} parameters), about {:.1f} GB free; choose "
            "a smaller model or another device",
            device_.capabilities().name, double(needed) / 1e9, metric(double(count)), double(device_.free_memory()) / 1e9);
    parameters_ = std::make_unique<ParameterStore>(device_, model, std::move(list), compute, sharing, moment_type);
    teacher_ = teacher();
    training_ = std::make_unique<TrainingStep>(
        device_, *parameters_,
        TrainingStepOptions{.batch = config_.training.local_batch_size,
                            .seq_len = config_.training.seq_len,
                            .max_norm = config_.training.max_norm,
                            .beta1 = config_.optimizer.beta1,
                            .beta2 = config_.optimizer.beta2,
                            .eps = config_.optimizer.eps,
                            .weight_decay = config_.optimizer.weight_decay,
                            .quantizer = quantizer,
                            .fisher = config_.quantization.centroid_update_algorithm == "fischer_kmeans",
                            .seed = uint64_t(config_.training.seed),
                            .precision = precision_,
                            .recompute = parse_recompute(config_.activation_checkpoint.mode),
                            .quantize_activations = quantizes_activations(config_),
                            .bitlinear_norm = quantizes_activations(config_)
                                                  ? parse_bitlinear_norm(config_.quantization.bitlinear_norm)
                                                  : BitlinearNorm::none,
                            .gradual = config_.quantization.switch_on_steps > 0,
                            .teacher = teacher_,
                            .ranks = &ranks_,
                            .exchange = {.bucket_bytes = bucket_bytes,
                                         .share_memory = config_.distributed.exchange == "auto",
                                         .zero1 = config_.distributed.zero1}});
    if (ranks_.size() > 1) say("gradients   " + training_->exchange_text());
}

// What the teacher says about all windows of the run: read where it has been written, else written by it now.
std::shared_ptr<TeacherCache> Run::teacher_cache() {
    const DistillationSection& d = config_.distillation;
    auto cache =
        std::make_shared<TeacherCache>(d.cache, TeacherCacheKey{.teacher = model_digest(d.teacher),
                                                                .vocabulary = settings_.model.vocab_size,
                                                                .seq_len = config_.training.seq_len,
                                                                .top_k = std::min(d.cache_top_k, settings_.model.vocab_size)});
    if (ranks_.first()) {
        BatchOptions options = batch_options_;
        options.rank = 0, options.world_size = 1;
        options.batch_size = std::gcd(options.batch_size, int64_t(TeacherCache::file_windows));
        BatchSource source(datasets_, options);
        // As many as there are steps, and those by which gamma of cakld is measured.
        const int64_t windows = std::max(config_.training.steps * config_.global_batch_size(),
                                         10 * config_.training.local_batch_size * ranks_.size());
        fill_teacher_cache(device_, d.teacher, settings_.model, *cache, source, options.batch_size, uint64_t(windows), precision_,
                           output_.line, options_.stop);
    }
    ranks_.barrier();
    cache->read(BatchSource(datasets_, batch_options_).next());  // an Error now rather than at the first step
    return cache;
}

// The teacher of a distillation, or nothing. Where gamma of cakld is not given it is the teacher's confidence in the first 10
// batches of the run, also of a resumed one.
std::shared_ptr<Teacher> Run::teacher() {
    const DistillationSection& d = config_.distillation;
    if (d.teacher.empty()) return {};
    TeacherOptions options{.loss = parse_distillation_loss(d.loss),
                           .weight = d.weight,
                           .label_weight = d.label_weight,
                           .hidden_weight = d.hidden_weight,
                           .coefficient = d.coefficient,
                           .per_sequence = d.reduction == "sequence"};
    if (options.loss == DistillationLoss::jsd && options.coefficient == 0) options.coefficient = 0.5;
    std::shared_ptr<Teacher> teacher;
    if (d.cache.empty())
        teacher = std::make_shared<Teacher>(device_, d.teacher, settings_.model, options, config_.training.seq_len);
    else
        teacher = std::make_shared<Teacher>(device_, teacher_cache(), options, config_.training.local_batch_size);
    if (options.loss == DistillationLoss::cakld && options.coefficient == 0) {
        const DataPosition start = source_->position();
        std::vector<Batch> batches;
        for (int i = 0; i < 10; i++) batches.push_back(source_->next());
        source_->restore(start);
        auto confidence = float(teacher->confidence(batches));
        if (ranks_.size() > 1) {  // each rank has seen other windows
            ranks_.all_reduce_sum(std::span(&confidence, 1));
            confidence /= float(ranks_.size());
        }
        teacher->set_coefficient(confidence);
    }
    const std::string memory =
        d.cache.empty() ? metric(double(teacher->bytes())) + "B" : fmt::format("its {} largest logits", d.cache_top_k);
    say(fmt::format("teacher     {} ({}), loss {} x {}{}, labels x {}, hidden states x {}", d.teacher, memory, d.loss, d.weight,
                    options.loss == DistillationLoss::cakld ? fmt::format(" (gamma {:.3f})", teacher->options().coefficient) : "",
                    d.label_weight, d.hidden_weight));
    return teacher;
}

// Loads the latest checkpoint, or makes the first weights; returns the steps done.
int64_t Run::resume() {
    std::optional<Checkpoint> checkpoint;
    if (options_.resume) {
        checkpoint = latest_checkpoint(config_.checkpoint_folder(), output_.line);
        if (!checkpoint) say("resume      there is no checkpoint yet: from the beginning");
    }
    if (checkpoint) {
        check_same_model(settings_.model, *checkpoint);
        check_same_quantizer(config_, *checkpoint);
        checkpoint->restore(*parameters_, *training_);
        state_ = checkpoint->state();
        losses_.restore(state_.recent_losses);
        gradient_norms_.restore(state_.recent_gradient_norms);
        begun_ = saved_ = state_.step;
        say(fmt::format("resume      from {}", checkpoint->folder().string()));
        if (const int64_t windows = checkpoint->config().global_batch_size(); windows != config_.global_batch_size())
            say(fmt::format("resume      with {} windows per step; there were {} before", config_.global_batch_size(), windows));
    } else if (const std::string& initial = config_.checkpoint.initial_load_path; is_run(initial)) {
        const Checkpoint before(initial);
        check_same_model(settings_.model, before);
        state_.quantized = before.state().quantized && same_quantizer(config_, before.config());
        before.begin_from(*parameters_, *training_, state_.quantized);
        say(fmt::format("weights     from {}{}", initial, state_.quantized ? ", quantized as they are there" : ""));
    } else if (!config_.checkpoint.initial_load_path.empty()) {
        parameters_->load(ModelFiles::open(config_.checkpoint.initial_load_path));
        say(fmt::format("weights     from {}", config_.checkpoint.initial_load_path));
    } else {
        parameters_->initialize(uint64_t(config_.training.seed));
    }
    if (!checkpoint && !state_.quantized && quantizer_config(config_).kind == QuantizerKind::onebit)
        start_onebit(device_, *parameters_, [&](const std::string& text) { say("start       " + text); });
    return state_.step;
}

void Run::say_memory() {
    const MemoryRow rows[] = {{"weights", parameters_->weight_bytes()},
                              {"gradients", parameters_->gradient_bytes()},
                              {"moments", parameters_->moment_bytes()},
                              {"weights for the products", parameters_->compute_bytes()},
                              {"activations", training_->activation_bytes()}};
    std::string text = "memory      ";
    uint64_t total = 0;
    for (const MemoryRow& row : rows) {
        text += fmt::format("{}{} {}B", total ? ", " : "", row.name, metric(double(row.bytes)));
        total += row.bytes;
    }
    memory_bytes_ = total;
    say(text + fmt::format("; together {}B", metric(double(total))));
}

Run::Drawn Run::draw() {
    Drawn drawn;
    for (int64_t i = 0; i < micro_steps_; i++) {
        drawn.batches.push_back(source_->next());
        if (teacher_) teacher_->read(drawn.batches.back());
    }
    drawn.after = source_->position();
    return drawn;
}

// METHODS 1: on from qat_start_step, with a first fit; fitted again at multiples of buffer_update_interval.
void Run::update_quantization(int64_t step) {
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

void Run::validate(int64_t step) {
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
void Run::save() {
    check_same_weights("before a checkpoint");
    begun_ = state_.step;
    if (writer_) report(writer_->wait());
    parameters_->gather_moments(ranks_);
    if (!writer_) return;  // another rank writes
    writer_->begin(state_);
    parameters_->drop_gathered();
    report(writer_->poll());
}

void Run::report(const std::optional<CheckpointResult>& result) {
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
void Run::finish_checkpoints() {
    if (!config_.checkpoint.enable) return;
    if (begun_ != state_.step && state_.step > 0) save();
    if (!writer_) return;
    report(writer_->wait());
    if (saved_ != state_.step && state_.step > 0)
        fail("the checkpoint of step {}, the last one, could not be written ({}); when there is room, go on with: {}",
             state_.step, saved_ < 0 ? "there is none" : fmt::format("that of step {} is whole", saved_),
             options_.resume_command);
}

void Run::report_skip(int64_t step) {
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

std::string Run::step_line(const StepMetrics& m, double seconds_left) const {
    return fmt::format("step {:>6}/{}  loss {:.4f}  lr {:.2e}  grad norm {:.3f}  {} tok/s  {}FLOP/s  {}B  {} left", m.step,
                       config_.training.steps, m.loss, m.learning_rate, m.gradient_norm, metric(m.tokens_per_second),
                       metric(m.flops_per_second), metric(double(m.memory_bytes)), duration_text(seconds_left));
}

// A dataset that has been read to its end begins again; said when it has been read 1, 2, 4, 8, ... times.
void Run::report_epochs(const DataPosition& before) {
    for (size_t i = 0; i < state_.data.streams.size(); i++) {
        const uint64_t epoch = state_.data.streams[i].epoch;
        if (epoch > before.streams[i].epoch && std::has_single_bit(epoch))
            say(fmt::format("step {}: {} has been read {}, and begins again", state_.step, config_.training_datasets()[i].path[0],
                            epoch == 1 ? "once" : fmt::format("{} times", epoch)));
    }
}

void Run::judge(const char* of, OutlierWatch& watch, double value) {
    const std::optional<Outlier> outlier = watch.add(value);
    if (!outlier) return;
    if (metrics_) metrics_->add_outlier(state_.step, of, *outlier);
    say(fmt::format("step {}: {} {:.4g} stands out: {:.1f} deviations above the median {:.4g} of the steps before", state_.step,
                    of, outlier->value, outlier->deviations, outlier->median));
}

void Run::begin_profile() {
    trace_.begin();
    training_->set_profile_sink(
        [this](const std::string& recording, const std::vector<ProfileRow>& rows) { trace_.gpu(recording, rows); });
}

void Run::end_profile() {
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

void Run::take_step(int64_t step) {
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

void Run::log_step() {
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

TrainResult Run::train() {
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

}  // namespace

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
        return Run(device, config, options, output).train();
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
        return Run(device, config, options, output).train();
    } catch (...) {
        if (!existed) fs::remove(folder, error);  // where nothing came to be in it
        throw;
    }
}

}  // namespace vkqat

#include "trainer/training_run.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "runtime/formats/model_digest.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "runtime/support/hash.h"
#include "trainer/corpus_reader.h"
#include "trainer/flavors.h"
#include "trainer/onebit.h"
#include "trainer/readable.h"
#include "trainer/sft_examples.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace fs = std::filesystem;
namespace {

struct MemoryRow {
    const char* name;
    uint64_t bytes;
};

}  // namespace

TrainingRun::TrainingRun(Device& device, const TrainConfig& config, const TrainOptions& options, const TrainOutput& output)
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

std::shared_ptr<const TokenCache> TrainingRun::tokens(const std::vector<std::string>& patterns,
                                                      const std::string& separator) const {
    const CorpusKind kind = config_.fine_tunes() ? CorpusKind::examples : CorpusKind::text;
    return std::make_shared<const TokenCache>(
        tokenize_corpus(corpus_files(patterns, kind),
                        {.separator = separator, .skip_bad_lines = config_.training.dataset_errors == "skip", .kind = kind},
                        encoder_, fs::path(config_.job.dump_folder) / "cache", 0, output_.line, output_.progress));
}

void TrainingRun::set_up_ranks() {
    const int64_t windows = config_.global_batch_size(), at_once = config_.training.local_batch_size * ranks_.size();
    if (windows % at_once != 0)
        fail("training.global_batch_size = {} is no multiple of training.local_batch_size = {} times the {} ranks", windows,
             config_.training.local_batch_size, ranks_.size());
    micro_steps_ = windows / at_once;
    if (ranks_.size() > 1) say(fmt::format("ranks       {}, {} of them on this machine", ranks_.size(), ranks_.node_size()));
}

// Ranks drift apart where their devices or their files differ. Collective.
void TrainingRun::check_same_weights(const char* when) const {
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

void TrainingRun::set_up_text() {
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
void TrainingRun::set_up_examples(const Tokenizer& tokenizer) {
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

void TrainingRun::say_examples(const std::vector<WeightedTokens>& datasets) const {
    SftCounts sum;
    for (const WeightedTokens& dataset : datasets) {
        const SftCounts counts = count_examples(*dataset.tokens, config_.training.seq_len);
        sum.trained += counts.trained;
        sum.cut += counts.cut;
    }
    say(fmt::format("            {} tokens are learnt; {} examples are longer than training.seq_len = {} and cut at their end",
                    metric(double(sum.trained)), sum.cut, config_.training.seq_len));
}

void TrainingRun::set_up_model() {
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
std::shared_ptr<TeacherCache> TrainingRun::teacher_cache() {
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
std::shared_ptr<Teacher> TrainingRun::teacher() {
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
int64_t TrainingRun::resume() {
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

void TrainingRun::say_memory() {
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

}  // namespace vkqat

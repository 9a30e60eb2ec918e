// A training run's configuration: one TOML file, whose keys can be overridden on the command line.
//
// The structs hold the defaults; the table of config_keys.h says what each key means and allows, and drives parsing, help and
// writing. Relative paths are relative to the directory that the program is started in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "trainer/quantizer.h"

namespace vkqat {

struct JobConfig {
    std::string dump_folder = "outputs";  // all that the run writes lies below
    std::string description;
    bool operator==(const JobConfig&) const = default;
};

// The architecture: a flavor (flavors.h), or dimensions with the names of Hugging Face's config.json, or both, where the
// dimensions override single values of the flavor. 0 and "" stand for "not given".
struct ModelConfig {
    std::string flavor;
    std::string tokenizer_path;  // "": that of checkpoint.initial_load_path
    int64_t hidden_size = 0;
    int64_t intermediate_size = 0;
    int64_t num_hidden_layers = 0;
    int64_t num_attention_heads = 0;
    int64_t num_key_value_heads = 0;
    int64_t head_dim = 0;
    int64_t vocab_size = 0;
    double rope_theta = 0;
    double rms_norm_eps = 0;
    bool tie_word_embeddings = false;
    int64_t max_position_embeddings = 0;
    std::string rope_scaling;  // llama3 | none
    bool operator==(const ModelConfig&) const = default;
};

struct OptimizerConfig {
    std::string name = "AdamW";
    double lr = 3e-4;
    double beta1 = 0.9;
    double beta2 = 0.95;
    double eps = 1e-8;
    double weight_decay = 0.1;
    double second_stage_weight_decay = 0;  // behind lr_scheduler.second_stage
    std::string moments = "fp32";          // or bf16
    bool operator==(const OptimizerConfig&) const = default;
};

// As LearningRateSchedule of optimizer.h.
struct LrSchedulerConfig {
    int64_t warmup_steps = 100;
    double decay_ratio = 0.2;
    std::string decay_type = "linear";  // linear | sqrt | cosine
    double min_lr_factor = 0;
    double second_stage = 0;  // share of the steps behind which the second stage begins; 0: one stage
    double second_stage_lr_factor = 1;
    bool operator==(const LrSchedulerConfig&) const = default;
};

// One of several corpora that are mixed.
struct DatasetConfig {
    std::vector<std::string> path;  // as training.dataset
    double weight = 1;              // its share of the windows, relative to the others'
    bool operator==(const DatasetConfig&) const = default;
};

struct TrainingConfig {
    std::vector<std::string> dataset;     // files, directories, globs (corpus_files of corpus_reader.h)
    std::vector<DatasetConfig> datasets;  // instead of `dataset`
    std::string dataset_separator;        // "": a blank line
    std::string dataset_errors = "stop";  // stop | skip
    std::string dataset_type = "text";    // text | sft
    int64_t seq_len = 2048;
    int64_t local_batch_size = 8;
    int64_t global_batch_size = 0;  // a multiple of local_batch_size times the ranks; 0: equal to that
    double max_norm = 1;
    int64_t steps = 1000;
    int64_t seed = 1;
    std::string precision = "auto";  // auto | fp32 | bf16 | fp16
    int64_t max_consecutive_skips = 20;
    bool operator==(const TrainingConfig&) const = default;
};

// Activation checkpointing: what the backward pass computes again instead of keeping it in memory.
struct ActivationCheckpointConfig {
    std::string mode = "none";  // none | selective | full
    bool operator==(const ActivationCheckpointConfig&) const = default;
};

struct CheckpointConfig {
    bool enable = true;
    int64_t interval = 500;
    std::string folder = "checkpoint";  // below job.dump_folder
    int64_t keep_latest_k = 3;          // 0: all
    bool async = true;                  // written beside the training, from a copy in host memory
    std::string initial_load_path;      // a Hugging Face directory, a checkpoint or a run; "": from scratch
    bool keep_best = false;             // one more behind each validation with the lowest loss so far, which stays
    bool operator==(const CheckpointConfig&) const = default;
};

struct MetricsConfig {
    int64_t log_freq = 10;
    double outlier_deviations = 6;  // 0: no warnings
    bool enable_tensorboard = false;
    std::string tensorboard_folder = "tensorboard";  // below job.dump_folder
    bool operator==(const MetricsConfig&) const = default;
};

struct ProfilingConfig {
    bool enable = false;
    std::vector<int64_t> steps = {10};
    std::string folder = "traces";  // below job.dump_folder
    bool operator==(const ProfilingConfig&) const = default;
};

struct ValidationConfig {
    bool enable = false;
    std::vector<std::string> dataset;
    std::string dataset_separator;
    int64_t freq = 100;
    int64_t steps = 0;  // 0: all batches
    bool operator==(const ValidationConfig&) const = default;
};

struct QuantizationSection {
    std::string quantizer = "none";  // none | nonlinear | sym_int | ternary | binary | bitnet158 | int_asym | nf | onebit
    int64_t target_bit_width = 2;
    int64_t block_dim_1 = 1;                           // rows of a block, 0: all
    int64_t block_dim_2 = 64;                          // columns of a block, 0: all
    std::string relative_scale = "absmean";            // absmax | absmean | rms | none
    std::string centroid_update_algorithm = "kmeans";  // kmeans | fischer_kmeans
    int64_t buffer_update_interval = 0;                // 0: centroids are fitted once
    int64_t qat_start_step = 0;
    std::vector<std::string> ignore_names = {"output"};
    std::string bitlinear_norm = "replace";  // bitnet158: replace | add | none
    int64_t switch_on_steps = 0;             // over which quantization grows from nothing to all; 0: at once
    bool operator==(const QuantizationSection&) const = default;
};

// Supervised fine-tuning: training.dataset_type = "sft".
struct SftConfig {
    std::string chat_template;  // a file; "": the tokenizer's
    bool train_on_prompts = false;
    bool operator==(const SftConfig&) const = default;
};

// Training on several devices, started by mpirun.
struct DistributedConfig {
    std::string exchange = "auto";  // auto | mpi
    double bucket_mb = 32;
    bool zero1 = false;
    bool operator==(const DistributedConfig&) const = default;
};

// As TeacherOptions of teacher.h.
struct DistillationSection {
    std::string teacher;  // a model directory or GGUF file; "": no distillation
    std::string loss = "cakld";
    double weight = 1;
    double label_weight = 0;
    double hidden_weight = 0;
    double coefficient = 0;           // cakld: 0 measures it; jsd: 0 is 0.5
    std::string reduction = "token";  // token | sequence
    std::string cache;                // folder of the teacher's largest logits (teacher_cache.h); "": the teacher runs along
    int64_t cache_top_k = 64;
    bool operator==(const DistillationSection&) const = default;
};

struct TrainConfig {
    JobConfig job;
    ModelConfig model;
    OptimizerConfig optimizer;
    LrSchedulerConfig lr_scheduler;
    TrainingConfig training;
    ActivationCheckpointConfig activation_checkpoint;
    CheckpointConfig checkpoint;
    MetricsConfig metrics;
    ProfilingConfig profiling;
    ValidationConfig validation;
    SftConfig sft;
    QuantizationSection quantization;
    DistributedConfig distributed;
    DistillationSection distillation;
    bool operator==(const TrainConfig&) const = default;

    // Windows per step, all accumulated ones together.
    int64_t global_batch_size() const {
        return training.global_batch_size ? training.global_batch_size : training.local_batch_size;
    }
    std::filesystem::path checkpoint_folder() const { return std::filesystem::path(job.dump_folder) / checkpoint.folder; }
    // All corpora of the training: `datasets`, or `dataset` as the only one.
    std::vector<DatasetConfig> training_datasets() const {
        return training.datasets.empty() ? std::vector<DatasetConfig>{{.path = training.dataset}} : training.datasets;
    }
    std::filesystem::path tokenizer_path() const {
        return model.tokenizer_path.empty() ? checkpoint.initial_load_path : model.tokenizer_path;
    }
    bool fine_tunes() const { return training.dataset_type == "sft"; }
};

// Reads a file, then the overrides "--section.key=value" in order: the value is read as TOML, and taken as a string where that
// fails or where the key is a string (--job.description=first try). Whole numbers may be written as 1e6.
// UsageError: an unknown or misspelt section or key (the message names file, line and the nearest known key), an override of
// another form. Error: the file is missing or no TOML, a value has the wrong type or lies outside of what is allowed, settings
// that contradict each other. The result is valid.
TrainConfig load_train_config(const std::filesystem::path& file, std::span<const std::string> overrides = {});

// Error naming key, value and what is allowed, or the settings that contradict each other; `where` begins the message.
void validate(const TrainConfig& config, std::string_view where);

// Every section with its keys, defaults and one line each, for --help.
std::string train_config_help();

// The complete configuration, defaults included, as a TOML file that load_train_config reads back to an equal one.
std::string to_toml(const TrainConfig& config);

// The part that the quantizers know. bitnet158 is `ternary` with one scale for a matrix, and 8-bit activations.
QuantizerConfig quantizer_config(const TrainConfig& config);
inline bool quantizes_activations(const TrainConfig& config) { return config.quantization.quantizer == "bitnet158"; }

}  // namespace vkqat

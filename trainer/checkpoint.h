// Checkpoints of a training run: folders step-00000200 that hold all it takes to continue with the same bits, and to export.
//
//   manifest.json              step, optimiser's counters, data position; a checksum of every file and tensor, and of itself
//   config.toml                the run's effective configuration
//   config.json, tokenizer/    the model's architecture and its tokenizer; generation_config.json where the run began with one
//   weights.safetensors        fp32, under the names of Hugging Face
//   first_moment.safetensors, second_moment.safetensors   AdamW's, under the weights' names
//   centroids.safetensors      LAYER.centroids, once k-means quantization is on
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/formats/safetensors.h"
#include "trainer/config.h"
#include "trainer/training_step.h"

namespace vkqat {

// Where a run stands between two steps, beside the arrays.
struct TrainState {
    int64_t step = 0;        // steps done, skipped ones included
    bool quantized = false;  // whether quantization is on
    int64_t best_step = -1;  // that of the lowest validation loss while checkpoint.keep_best is set; -1: none
    double best_loss = 0;
    AdamwState optimizer{};
    DataPosition data;
    std::vector<double> recent_losses, recent_gradient_norms;  // that outliers are judged by (outliers.h)
};

// What stays the same during a run.
struct RunSettings {
    TrainConfig config;
    LlamaConfig model;
    std::filesystem::path tokenizer;  // as for load_tokenizer()
    std::string generation_config;    // text of generation_config.json; empty: none
    std::string chat_template;        // Jinja that stands for that of the tokenizer; empty: none
};

// All that a checkpoint holds, in host memory: the training may go on while it is written.
class CheckpointSnapshot {
public:
    // Host memory that take() needs.
    static uint64_t bytes(const ParameterStore& parameters);
    // Makes room, so that the first take() need not.
    void reserve(const ParameterStore& parameters);
    // Waits for the device and copies; the memory of an earlier snapshot of the same model is used again.
    void take(const TrainState& state, const ParameterStore& parameters, const TrainingStep& training);

private:
    friend std::filesystem::path write_checkpoint(const std::filesystem::path&, const RunSettings&, const CheckpointSnapshot&);
    TrainState state_;
    std::vector<Parameter> parameters_;
    std::vector<std::vector<float>> arrays_;  // weights of all parameters, then first, then second moments
    std::vector<size_t> quantized_layers_;    // indices of parameters
    std::vector<std::vector<float>> centroids_;
};

// `folder`: that of all checkpoints of the run, made where it is missing. The new one appears complete or not at all; then all
// but the `config.checkpoint.keep_latest_k` newest and that of state.best_step are removed. Returns its folder. Error: a full
// disk; a checkpoint of this step exists. The second form reads from the device one array at a time.
std::filesystem::path write_checkpoint(const std::filesystem::path& folder, const RunSettings& settings,
                                       const CheckpointSnapshot& snapshot);
std::filesystem::path write_checkpoint(const std::filesystem::path& folder, const RunSettings& settings, const TrainState& state,
                                       const ParameterStore& parameters, const TrainingStep& training);

// A complete checkpoint, opened for reading.
class Checkpoint {
public:
    // Reads all of it and compares the checksums. Error naming file, tensor, what was expected and what was found.
    explicit Checkpoint(const std::filesystem::path& folder);

    const std::filesystem::path& folder() const { return folder_; }
    const TrainState& state() const { return state_; }
    const TrainConfig& config() const { return config_; }
    const LlamaConfig& model() const { return model_; }
    std::filesystem::path tokenizer() const { return folder_ / "tokenizer"; }
    const SafetensorsFile& weights() const { return files_[0]; }
    const TensorView* centroids(const std::string& layer) const;  // null where the layer has none

    // Error if a tensor is missing or has another shape than the parameter.
    void restore(ParameterStore& parameters, TrainingStep& training) const;
    // The same for a run that begins with these weights, and perhaps with the quantization as it stands: without moments.
    void begin_from(ParameterStore& parameters, TrainingStep& training, bool quantization) const;

private:
    void restore_arrays(ParameterStore& parameters, size_t count) const;  // weights, first moments, second moments
    void restore_quantization(const ParameterStore& parameters, TrainingStep& training) const;

    std::filesystem::path folder_;
    TrainState state_;
    TrainConfig config_;
    LlamaConfig model_;
    std::vector<SafetensorsFile> files_;  // weights, moments, and perhaps centroids
};

using Say = std::function<void(const std::string&)>;

// The newest checkpoint in `folder` that is whole; `say` gets a line on each damaged one that is passed over. Nothing if there is
// none at all. Error if all are damaged.
std::optional<Checkpoint> latest_checkpoint(const std::filesystem::path& folder, const Say& say);

// Before a run goes on from `step`: removes what killed runs left half-written, and moves checkpoints of later steps, which are
// damaged, out of the way.
void tidy_checkpoints(const std::filesystem::path& folder, int64_t step, const Say& say);

// Whether this is a checkpoint or the dump_folder of a run, rather than a model's directory.
bool is_run(const std::filesystem::path& path);

// `path`: a checkpoint, a folder of checkpoints, or the dump_folder of a run, whose latest one is taken. Error if there is none.
Checkpoint open_checkpoint(const std::filesystem::path& path, const Say& say);
// That with the lowest validation loss of the run (checkpoint.keep_best), found through its latest one.
Checkpoint open_best_checkpoint(const std::filesystem::path& path, const Say& say);

}  // namespace vkqat

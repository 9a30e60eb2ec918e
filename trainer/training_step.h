// One optimisation step as recorded graphs: prepare the weights (quantize), micro-steps (forward and backward), update.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/graph/executable.h"
#include "trainer/data.h"
#include "trainer/gradient_exchange.h"
#include "trainer/parameters.h"
#include "trainer/teacher.h"

namespace vkqat {

struct TrainingStepOptions {
    int64_t batch = 1, seq_len = 128;  // of a micro-step
    double max_norm = 1.0;             // of the gradient; 0: no clipping
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
    QuantizerConfig quantizer;
    bool fisher = false;     // k-means weighted by AdamW's second moment
    int64_t chunk_rows = 0;  // tokens whose logits exist at a time; 0: chosen by the vocabulary
    uint64_t seed = 0;
    Precision precision = Precision::f32;
    Recompute recompute = Recompute::none;
    uint64_t activation_limit = 0;      // bytes that the activations may take; 0: what is free on the device
    bool quantize_activations = false;  // of quantized layers, where quantization is on (BitNet b1.58)
    BitlinearNorm bitlinear_norm = BitlinearNorm::none;
    bool gradual = false;                   // set_strength() will be used
    std::shared_ptr<Teacher> teacher = {};  // the loss is the distance from it; absent: the cross-entropy of the labels
    Communicator* ranks = nullptr;          // whose gradients are summed; nullptr: this process is alone
    ExchangeOptions exchange;
};

// "none", "selective" or "full" (activation_checkpoint.mode). Error: anything else.
Recompute parse_recompute(std::string_view mode);

class TrainingStep {
public:
    // Error if the activations do not fit, which says what would.
    TrainingStep(Device& device, ParameterStore& parameters, const TrainingStepOptions& options);
    ~TrainingStep();

    // Whether the forward pass uses quantized weights; off at first.
    void set_quantized(bool on);
    // On, with weights w + strength (q(w) - w), activations likewise; 0 < strength <= 1. Error unless options.gradual, or where
    // the quantizer has a gradient of its own.
    void set_strength(double strength);
    bool quantized() const { return quantized_; }
    // Fits the centroids of all quantized layers (k-means only; otherwise nothing happens). `step` varies the random start.
    void fit_centroids(int64_t step);
    // Decoupled weight decay of the steps that follow.
    void set_weight_decay(double value) { options_.weight_decay = value; }
    // One step: the gradient is the mean over all labels of the batches, of all ranks. Submits and does not wait for the end;
    // with several ranks it waits for the gradients.
    void run(std::span<const Batch> batches, double learning_rate);
    // Brings the weights of the matrix products up to date with the master weights; run() does that by itself.
    void prepare();
    // Sum of the negative log-likelihoods (nats) of a batch's labels with the prepared weights, and the number of labels.
    std::pair<double, int64_t> evaluate(const Batch& batch);

    // Waits for the last step and reads the counters.
    AdamwState state() const;
    void restore_state(const AdamwState& state);
    const std::vector<size_t>& quantized_layers() const { return quantized_layers_; }  // indices of parameters
    std::vector<float> centroids(size_t layer) const;  // of quantized_layers()[layer]; empty unless k-means
    void set_centroids(size_t layer, std::span<const float> values);

    // While a sink is set, run() and fit_centroids() measure each node of their recordings and hand the rows to it as soon as a
    // recording has ended. That changes no bit of the training, but nodes no longer overlap and each recording is waited for.
    using ProfileSink = std::function<void(const std::string& recording, const std::vector<ProfileRow>& rows)>;
    void set_profile_sink(ProfileSink sink) { profile_sink_ = std::move(sink); }
    // Time of each node of one step, which is done once more with the last inputs: for a profile, not within a training.
    std::vector<ProfileRow> profile();
    uint64_t activation_bytes() const;
    // How gradients are exchanged, for the log; empty for one rank.
    std::string exchange_text() const;
    double exposed_exchange_seconds() const;  // of a step, in the mean: what the backward pass did not cover

private:
    struct Graphs;
    void submit(Executable& recording);
    void fill_inputs(const Batch& batch, double scale);
    int64_t label_count(std::span<const Batch> batches) const;

    Device& device_;
    ParameterStore& parameters_;
    TrainingStepOptions options_;
    bool quantized_ = false, partly_ = false;  // partly: strength below 1
    ProfileSink profile_sink_;
    Buffer ids_, labels_, document_start_, document_end_, order_;  // host-visible inputs of a micro-step
    Buffer scale_, settings_, scalars_;                            // and of a step
    Buffer loss_, rows_, state_, rope_, centroids_;
    Buffer squares_;   // partial sums of the gradient's norm, with ZeRO-1
    Buffer strength_;  // of quantization, 0 to 1: f32, host-visible
    Buffer ones_;      // weights of norms
    std::vector<size_t> quantized_layers_;
    std::unique_ptr<Graphs> graphs_;
};

}  // namespace vkqat

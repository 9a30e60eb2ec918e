// The teacher of a distillation: a model that reads what the student reads, in the same graph, or what such a model has said
// before.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/graph/executable.h"
#include "runtime/model/weights.h"
#include "runtime/ops/distillation.h"
#include "trainer/data.h"
#include "trainer/teacher_cache.h"

namespace vkqat {

struct TeacherOptions {
    DistillationLoss loss = DistillationLoss::cakld;
    double weight = 1;          // of the distance of the distributions
    double label_weight = 0;    // of the cross-entropy of the labels, a mean over labels
    double hidden_weight = 0;   // of the distance of the layers' inputs (OneBit), a mean over tokens, added up over layers
    double coefficient = 0;     // gamma of cakld, beta of jsd
    bool per_sequence = false;  // distances are added up over a sequence's tokens, and a mean over sequences is taken, as the
                                // published code does; else a mean over labels. tlsd: always a sum within a sequence
};

// The teacher in one graph.
struct TeacherTensors {
    Tensor hidden, head;
    TopLogits top;                     // instead of these two, from a cache
    std::vector<Tensor> layer_inputs;  // only where hidden states are compared
};

class Teacher {
public:
    // A model directory or GGUF file in full precision or packed, for sequences of seq_len tokens. Errors: another vocabulary
    // than the student's; hidden states are to be compared and the layers or their width differ; too little memory.
    Teacher(Device& device, const std::filesystem::path& model, const LlamaConfig& student, const TeacherOptions& options,
            int64_t seq_len);
    // What a teacher has said, for batches of `batch` windows. Error: hidden states are to be compared, which are not kept.
    Teacher(Device& device, std::shared_ptr<TeacherCache> cache, const TeacherOptions& options, int64_t batch);

    // With a cache: read() fetches what was said about a batch, so that it can be done while the device works, and fill() puts it
    // where the graphs that run next find it; the device must be idle then. Else nothing. Errors as TeacherCache::read().
    void read(Batch& batch) const;
    void fill(const Batch& batch);

    // Nodes of the forward pass. ids i32 [batch * seq_len], document_start and document_end i32 [batch, seq_len].
    TeacherTensors forward(Graph& g, Tensor ids, Tensor document_start, Tensor document_end) const;
    // base + the loss of a layer's inputs, f32 [1], and in training the gradient of `x`.
    Tensor add_hidden_loss(Graph& g, const TeacherTensors& teacher, int64_t layer, Tensor x, Tensor base) const;
    // The loss of the student's head: what of DistillationHead is the teacher's is filled in.
    void add_loss(Graph& g, const TeacherTensors& teacher, DistillationHead head) const;

    // How a step's losses are scaled: its labels, its sequences of seq_len tokens. The device must be idle.
    void set_scales(int64_t labels, int64_t sequences, int64_t seq_len);

    // The mean over labels of the teacher's largest probability (gamma of cakld).
    double confidence(const std::vector<Batch>& batches) const;
    void set_coefficient(double value) { options_.coefficient = value; }
    const TeacherOptions& options() const { return options_; }
    uint64_t bytes() const { return weights_ ? weights_->bytes() : 0; }

private:
    Device& device_;
    std::unique_ptr<LlamaWeights> weights_;  // or
    std::shared_ptr<TeacherCache> cache_;
    TeacherOptions options_;
    int64_t seq_len_, tokens_ = 0;  // of a batch from the cache
    Buffer rope_, factors_;         // factors: f32 [4], host-visible: distances, cross-entropies, coefficient, hidden states
    Buffer top_ids_, top_values_, top_norm_, top_loss_, top_confidence_;  // host-visible
};

// Has a teacher (a model as above) write what the cache lacks of the windows 0 .. windows - 1 of a stream. source: that of one
// rank at its beginning, with batches of `batch` windows, a divisor of TeacherCache::file_windows. `line` gets news now and then.
// Error: `stop` returned true between two batches; what is written stays, and the next call goes on.
void fill_teacher_cache(Device& device, const std::filesystem::path& model, const LlamaConfig& student, TeacherCache& cache,
                        BatchSource& source, int64_t batch, uint64_t windows, Precision precision,
                        const std::function<void(const std::string&)>& line, const std::function<bool()>& stop);

}  // namespace vkqat

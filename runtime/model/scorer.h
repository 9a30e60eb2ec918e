// Scores given text: the negative log-likelihood of each token under a model (perplexity, METHODS 5), and all logits.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/graph/executable.h"
#include "runtime/model/weights.h"

namespace vkqat {

class Scorer {
public:
    // Graph for `batch` sequences of `seq_len` tokens. `weights` must outlive it. With planned weights nothing is allocated and
    // nothing can run: only device_bytes() is known.
    Scorer(const LlamaWeights& weights, int64_t batch, int64_t seq_len);
    ~Scorer();
    int64_t batch() const { return batch_; }
    int64_t seq_len() const { return seq_len_; }
    uint64_t device_bytes() const { return device_bytes_; }  // without the weights
    // Nats of each label, [batch * seq_len], 0 where the label is negative. All spans [batch * seq_len]; document_start and
    // document_end as in runtime/ops/attention.h. Error for an id or label outside the vocabulary.
    std::vector<float> score(std::span<const int32_t> ids, std::span<const int32_t> labels,
                             std::span<const int32_t> document_start, std::span<const int32_t> document_end);

private:
    const LlamaWeights& weights_;
    int64_t batch_, seq_len_;
    uint64_t device_bytes_ = 0;
    Buffer ids_, labels_, document_start_, document_end_, scale_, rope_, rows_;
    std::unique_ptr<Graph> graph_;
    std::unique_ptr<Executable> executable_;
};

// Logits of every position of one sequence, [tokens, vocab_size]: for tests and tools, not for speed.
std::vector<float> all_logits(const LlamaWeights& weights, std::span<const int32_t> ids);

}  // namespace vkqat

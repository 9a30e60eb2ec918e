// Scores tokens of many short sequences in one packed row: sequences behind one another, those that begin alike behind one copy
// of what they share (the choices of a question behind its context).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/graph/executable.h"
#include "runtime/model/weights.h"

namespace vkqat {

// Sequences that begin with the same tokens.
struct SharedSequences {
    std::vector<int32_t> prefix;             // at least one token
    std::vector<std::vector<int32_t>> rest;  // what follows it, by sequence; may be empty
    int64_t tokens() const;
};

// A token to score: the id `label` behind token `at` of sequence `sequence` (0: the first of the prefix).
struct ScoredToken {
    int32_t group = 0, sequence = 0, at = 0, label = 0;
};

struct TokenScore {
    float nll = 0;     // nats
    int32_t best = 0;  // the id with the largest logit at that place
};

class PackedScorer {
public:
    // Graph for `tokens` packed tokens of which `rows` are scored. `weights` must outlive it.
    PackedScorer(const LlamaWeights& weights, int64_t tokens, int64_t rows);
    ~PackedScorer();
    int64_t tokens() const { return tokens_; }
    int64_t rows() const { return rows_; }
    // Scores in the order of `wanted`. Errors: more tokens or rows than the graph has, a sequence longer than the model allows,
    // ids outside the vocabulary, a place that is none.
    std::vector<TokenScore> score(std::span<const SharedSequences> groups, std::span<const ScoredToken> wanted);

private:
    const LlamaWeights& weights_;
    int64_t tokens_, rows_, positions_;
    Buffer ids_, position_, first_, skip_from_, skip_to_, places_, labels_, rope_, nll_, best_;
    std::unique_ptr<Graph> graph_;
    std::unique_ptr<Executable> executable_;
};

}  // namespace vkqat

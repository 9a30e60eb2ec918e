// Log-likelihoods of continuations, tokenized and cut as lm-evaluation-harness does it, many sequences at a time.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "evaluation/task.h"
#include "runtime/model/packed_scorer.h"
#include "runtime/text/tokenizer.h"

namespace vkqat {

// Tokens of a context and of what follows it; of the two together as much of the front is cut off as does not fit.
struct TokenPair {
    std::vector<int32_t> ids;  // what the model reads, and behind it the last token to predict
    size_t predicted = 0;      // the last so many are scored
};

// The continuation's tokens are those that the whole text has behind as many as the context has alone; white space at the end of
// the context counts to the continuation; an empty context is the start token (or the end token). `longest`: tokens that the
// model reads at most. Error: nothing to score, or more than `longest`.
TokenPair encode_pair(const Tokenizer& tokenizer, std::string context, std::string continuation, int64_t longest);

// Of each continuation of a question.
struct QuestionScore {
    std::vector<double> log_likelihood;  // nats
    std::vector<bool> greedy;            // whether it is what greedy decoding would write
};

struct LikelihoodOptions {
    int64_t batch_tokens = 0;  // packed tokens at a time; 0: 4096, on a CPU 256; never fewer than the longest question needs
    std::function<void(size_t question, const QuestionScore& score)> done;
    std::function<void(double tokens_done, double tokens)> progress;
};

struct LikelihoodWork {
    int64_t tokens = 0;    // of all sequences, as one by one they would be
    int64_t computed = 0;  // what was computed: shared beginnings once
    double seconds = 0;    // on the device
};

// Scores the questions whose place in `scores` is empty. Deterministic; the packing does not change what a sequence sees.
LikelihoodWork score_questions(const LlamaWeights& weights, const Tokenizer& tokenizer, const Task& task,
                               std::vector<std::optional<QuestionScore>>& scores, const LikelihoodOptions& options);

}  // namespace vkqat

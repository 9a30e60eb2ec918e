// From scores to figures with standard errors.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "evaluation/generation.h"
#include "evaluation/likelihood.h"

namespace vkqat {

struct Metric {
    std::string name;  // acc, acc_norm, acc_bytes, perplexity; exact_match with the pattern's name behind a comma
    double value = 0;
    double error = 0;  // standard error: sample deviation / sqrt(n); of a perplexity the mean's times the perplexity
};

// choices: acc (highest log-likelihood), acc_norm (divided by the choice's characters), acc_bytes (by its bytes); of equals the
// first counts. target: perplexity (exp of the mean negative log-likelihood of a target), acc (the target is what greedy decoding
// writes). Error if a log-likelihood is no number.
std::vector<Metric> metrics_of(const Task& task, const std::vector<std::optional<QuestionScore>>& scores);
std::vector<Metric> metrics_of(const Task& task, const std::vector<std::optional<Answer>>& answers);

// Several tasks as one: means weighted by the number of questions, errors pooled as lm-evaluation-harness pools them.
std::vector<Metric> pooled(const std::vector<std::vector<Metric>>& metrics, const std::vector<int64_t>& questions);

}  // namespace vkqat

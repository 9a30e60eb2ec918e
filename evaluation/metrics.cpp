#include "evaluation/metrics.h"

#include <algorithm>
#include <cmath>

#include "evaluation/text.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

Metric mean(std::string name, const std::vector<double>& values) {
    double sum = 0, squares = 0;
    for (double v : values) sum += v;
    const double n = double(values.size()), m = sum / n;
    for (double v : values) squares += (v - m) * (v - m);
    return {std::move(name), m, values.size() > 1 ? std::sqrt(squares / (n - 1) / n) : 0};
}

size_t best(const std::vector<double>& values) { return size_t(std::max_element(values.begin(), values.end()) - values.begin()); }

}  // namespace

std::vector<Metric> metrics_of(const Task& task, const std::vector<std::optional<QuestionScore>>& scores) {
    std::vector<double> acc, by_characters, by_bytes, likelihood;
    for (size_t i = 0; i < scores.size(); i++) {
        const Question& q = task.questions[i];
        if (!scores[i]) fail("{}: row {} has no score", task.name, q.row);
        const QuestionScore& s = *scores[i];
        for (double x : s.log_likelihood)
            if (!std::isfinite(x)) fail("{}: row {}: the model's log-likelihood is {}", task.name, q.row, x);
        if (task.kind == TaskKind::target) {
            likelihood.push_back(s.log_likelihood[0]);
            acc.push_back(s.greedy[0]);
            continue;
        }
        auto right = [&](auto length) {
            std::vector<double> scaled = s.log_likelihood;
            // An empty choice divides by 0: -inf, as there, unless its log-likelihood is 0.
            for (size_t n = 0; n < scaled.size(); n++) scaled[n] /= double(length(q.choices[n]));
            return double(best(scaled) == size_t(q.gold));
        };
        acc.push_back(right([](const std::string&) { return 1; }));
        by_characters.push_back(right([](const std::string& c) { return count_characters(c); }));
        by_bytes.push_back(right([](const std::string& c) { return c.size(); }));
    }
    if (task.kind == TaskKind::target) {
        Metric m = mean("perplexity", likelihood);
        m.value = std::exp(-m.value);
        m.error *= m.value;
        return {m, mean("acc", acc)};
    }
    return {mean("acc", acc), mean("acc_norm", by_characters), mean("acc_bytes", by_bytes)};
}

std::vector<Metric> metrics_of(const Task& task, const std::vector<std::optional<Answer>>& answers) {
    std::vector<Metric> out;
    for (size_t p = 0; p < task.patterns.size(); p++) {
        std::vector<double> right;
        for (const auto& answer : answers) right.push_back(answer && answer->right[p]);
        const std::string& name = task.patterns[p].name;
        out.push_back(mean(name == "exact_match" ? name : "exact_match," + name, right));
    }
    return out;
}

std::vector<Metric> pooled(const std::vector<std::vector<Metric>>& metrics, const std::vector<int64_t>& questions) {
    std::vector<Metric> out;
    for (size_t m = 0; !metrics.empty() && m < metrics[0].size(); m++) {
        double sum = 0, variance = 0, count = 0;
        for (size_t i = 0; i < metrics.size(); i++) {
            const double n = double(questions[i]);
            sum += n * metrics[i][m].value;
            variance += (n - 1) * n * metrics[i][m].error * metrics[i][m].error;
            count += n;
        }
        const double freedom = count - double(metrics.size());
        out.push_back({metrics[0][m].name, sum / count, freedom > 0 ? std::sqrt(variance / freedom / count) : 0});
    }
    return out;
}

}  // namespace vkqat

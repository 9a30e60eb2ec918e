// Answers that a model writes, found and compared as lm-evaluation-harness does it.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "evaluation/task.h"
#include "runtime/model/session.h"
#include "runtime/text/tokenizer.h"

namespace vkqat {

struct Answer {
    std::string text;                // all that was written, without what ended it
    std::vector<std::string> found;  // by task.patterns; "[invalid]" where the pattern is not in the text
    std::vector<bool> right;
};

struct GenerationWork {
    int64_t prompt_tokens = 0, tokens = 0;
    double seconds = 0;
};

// Writes greedily, several questions at a time (what their prompts share stays in the cache), those whose place in `answers` is
// empty; `done` gets them as they are finished. `end_ids` end a text besides task.until. Prompts lose their front where they do
// not fit.
GenerationWork answer_questions(const LlamaWeights& weights, const Tokenizer& tokenizer, const std::vector<int32_t>& end_ids,
                                const Task& task, std::vector<std::optional<Answer>>& answers,
                                const std::function<void(size_t question, const Answer& answer)>& done);

// What the patterns find in a text, and whether it is the answer.
Answer judge(const Task& task, const Question& question, std::string text);

}  // namespace vkqat

// vkqat eval --tasks: models on tasks with choices, targets or written answers.
#pragma once

#include <string>
#include <vector>

#include "evaluation/task.h"
#include "tools/command.h"

namespace vkqat {

struct TaskEvaluation {
    std::vector<std::string> models, tasks;
    TaskOptions options;
    int64_t batch_tokens = 0;
    std::string save;  // folder of scores, so that a stopped evaluation goes on; empty: none
    bool as_json = false;
};

// Prints a table with a column for each model, or JSON. What a broken task file concerns is left out and told on stderr; then
// Error at the end.
void evaluate_tasks(Gpu& gpu, const TaskEvaluation& evaluation);

}  // namespace vkqat

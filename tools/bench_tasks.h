// vkqat bench tasks: questions with choices through a model of random weights, many at once beside one by one.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/vulkan/device.h"

namespace vkqat {

struct TaskBench {
    std::string flavor;  // of trainer/flavors.h
    int64_t bits = 16;   // 16: bf16
    std::string tasks, tokenizer;
    int64_t limit = 0, batch_tokens = 0;
};

// Calls `add` with a row: the time of score_questions(), and of a loop that scores choice by choice, each from its first token.
void bench_tasks(Device& device, const TaskBench& options, const std::function<void(const nlohmann::json&)>& add);

}  // namespace vkqat

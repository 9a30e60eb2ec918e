// Scores of a task on disk as they come: what a stopped evaluation goes on from, and what can be looked at afterwards.
//
// One JSON object per line. First {"model_digest", "task", "task_digest", "device", "harness"}; then for each question, in the
// order in which they were done,
//   {"question": 3, "row": 4, "gold": 1, "log_likelihood": [-12.5, -9.25], "greedy": [false, false]}
//   {"question": 3, "row": 4, "text": "...", "found": ["18"], "right": [true]}
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/generation.h"
#include "evaluation/likelihood.h"
#include "runtime/formats/model_digest.h"

namespace vkqat {

struct StoreKey {
    std::string model_digest, task, task_digest, device;
};

class ScoreStore {
public:
    // Opens or makes the file. A last line that was cut off is removed. Error if the file is of another model, task or device,
    // or damaged.
    ScoreStore(const std::filesystem::path& file, const StoreKey& key, const Task& task);
    ~ScoreStore();
    ScoreStore(const ScoreStore&) = delete;
    ScoreStore& operator=(const ScoreStore&) = delete;

    std::vector<std::optional<QuestionScore>> scores;  // what the file holds, by question
    std::vector<std::optional<Answer>> answers;

    void add(size_t question, const QuestionScore& score);
    void add(size_t question, const Answer& answer);

private:
    void write(const std::string& line);
    std::filesystem::path path_;
    const Task& task_;
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

}  // namespace vkqat

// What a model is asked: tasks with their questions, as lm-evaluation-harness 0.4 puts them (its task files of version 0.4.13).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

// The version whose prompts and scoring are followed.
inline constexpr const char* harness_version = "lm-evaluation-harness 0.4.13";

enum class TaskKind {
    choices,     // the choice with the highest log-likelihood is the answer
    target,      // is the target what the model would write? and how likely is it?
    generation,  // the model writes, the answer is looked for in it
};

struct Question {
    size_t row = 0;                          // of the file, from 1
    std::vector<std::string> contexts;       // one for each continuation; of `generation`: one
    std::vector<std::string> continuations;  // with the delimiter in front
    std::vector<std::string> choices;        // as the file has them: their lengths normalise
    int gold = 0;                            // index of the right one
    std::string answer;                      // of `generation`
};

// How an answer is found in what the model wrote.
struct AnswerPattern {
    std::string name;
    std::string pattern;  // what it matches is the answer; empty: all of the text
    bool last = false;    // the last match instead of the first
};

struct Task {
    std::string name, group;  // group: tasks of one are also summed up ("mmlu"); may be empty
    std::filesystem::path file;
    TaskKind kind = TaskKind::choices;
    int few_shot = 0;  // worked examples in front of each question
    std::vector<Question> questions;
    std::vector<std::string> until;  // of `generation`: texts that end it
    int64_t max_tokens = 256;
    std::vector<AnswerPattern> patterns;
    bool normalised = true;      // whether acc_norm is one of its figures
    bool numeric = false;        // answers are compared as gsm8k's: without commas, $, and a full stop behind
    std::string digest() const;  // 16 hexadecimal digits over all that the model is asked and scored by
};

// Names that load_tasks() knows, besides descriptions in TOML.
const std::vector<std::string>& known_tasks();

// What `--tasks` names, [NAME=]PATH[,PATH of worked examples]:
// - a file of rows for NAME: .jsonl, .json (an array, or {"rows": [...]} as the datasets server gives it), .csv; perhaps .gz or
//   .zst. Without NAME= the file's name must hold the name of a task. Rows have the Hugging Face data set's field names, or
//   those of llm-foundry: {query, choices, gold}, {context_options, continuation, gold}, {context, continuation}.
// - mmlu: a folder with dev/SUBJECT_dev.csv and test/SUBJECT_test.csv, one task for each subject.
// - PATH.toml: the description of a task (task_toml.cpp).
// - a folder without NAME=: all files in it whose names hold that of a task, and mmlu.
struct TaskRequest {
    std::string name;  // empty: a description
    std::filesystem::path path, examples;
};
std::vector<TaskRequest> find_tasks(const std::string& text);  // Error if there is no such file or task

struct TaskOptions {
    int64_t limit = 0;  // the first questions only; 0: all
    int few_shot = -1;  // -1: the task's own number (mmlu 5, gsm8k 5, others 0)
};
// The tasks of one request: one, or the subjects of mmlu. Error naming file and row.
std::vector<Task> load_tasks(const TaskRequest& request, const TaskOptions& options);

}  // namespace vkqat

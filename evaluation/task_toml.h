// Tasks that a small TOML file describes.
#pragma once

#include "evaluation/task.h"

namespace vkqat {

// Keys (all but name, data and prompt have a default):
//   name = "copa"                       of the task
//   data = "copa.jsonl"                 rows, as read_rows() takes them; relative to the description
//   scoring = "choices"                 or "target", "generation" (TaskKind)
//   prompt = "{{premise}} because"      {{field}}, {{field.key}}, {{field[0]}}; {{field|strip}} without white space at both ends
//   choices = ["{{choice1}}", "{{choice2}}"], or the name of a field that is a list of texts: "choices.text"
//   gold = "label"                      field with the right one's index from 0, its letter (A, B, ...), or its text
//   target = "{{answer}}"               of "target" and "generation"
//   delimiter = " "                     between prompt and choice
//   description = ""                    in front of all
//   few_shot = 0, few_shot_data = "train.jsonl", few_shot_delimiter = "\n\n": the file's first rows as worked examples
//   until = ["\n"], max_tokens = 256    of "generation"
//   answer_pattern = "-?[0-9]+", answer_match = "first" or "last", numeric = false    how its answer is found and compared
// Error naming the file and the key: unknown ones, wrong types, rows without a field.
Task load_toml_task(const std::filesystem::path& file, const TaskOptions& options);

// Puts `description` and the first task.few_shot of `examples` with their answers in front of all questions.
void add_examples(Task& task, const std::string& description, const std::vector<Question>& examples, const std::string& between);

}  // namespace vkqat

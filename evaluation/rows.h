// Rows of task files as JSON objects. For .cpp files of this room: it brings nlohmann/json.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

struct Row {
    size_t number = 0;   // from 1: the line, or the element
    nlohmann::json row;  // an object
};

// .jsonl: an object in each line, empty ones left out. .json: an array of objects or {"rows": [{"row": {...}}, ...]}. .csv: as
// RFC 4180, with names in the first line; a file without any, as MMLU's first publication, gets question, choice0 .. choice3 and
// answer. Error naming file and row: no rows at all, malformed.
std::vector<Row> read_rows(const std::filesystem::path& file);

// Fields of a row; Error "has no ..., found ..." names the field.
bool has(const nlohmann::json& row, const char* key);
std::string text_field(const nlohmann::json& row, const char* key);
std::vector<std::string> list_field(const nlohmann::json& row, const char* key);
int64_t whole_number(const nlohmann::json& value);                          // also true and false; -1 for anything else
int index_field(const nlohmann::json& row, const char* key, size_t count);  // 0 .. count - 1, as a number or its digits

}  // namespace vkqat

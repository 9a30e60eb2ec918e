#include "evaluation/rows.h"

#include <fmt/ranges.h>

#include <charconv>

#include "evaluation/text.h"
#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "runtime/text/utf8.h"
#include "trainer/corpus_reader.h"

namespace vkqat {
namespace {

using nlohmann::json;

std::string names(const json& row) {
    std::vector<std::string> keys;
    for (auto& [key, value] : row.items()) keys.push_back(printable(key, 40));
    return fmt::format("{}", fmt::join(keys, ", "));
}

const json& field(const json& row, const char* key) {
    auto found = row.find(key);
    if (found == row.end()) fail("there is no \"{}\" among {}", key, names(row));
    return *found;
}

// The fields of the line that begins at `at`, which moves behind it.
std::vector<std::string> csv_line(std::string_view text, size_t& at) {
    std::vector<std::string> fields(1);
    bool quoted = false;
    while (at < text.size()) {
        char c = text[at++];
        if (quoted) {
            if (c != '"')
                fields.back() += c;
            else if (at < text.size() && text[at] == '"')
                fields.back() += text[at++];
            else
                quoted = false;
        } else if (c == '"' && fields.back().empty()) {
            quoted = true;
        } else if (c == ',') {
            fields.emplace_back();
        } else if (c == '\n') {
            return fields;
        } else if (c != '\r' || (at < text.size() && text[at] != '\n')) {
            fields.back() += c;
        }
    }
    if (quoted) fail("a quotation mark is never closed");
    return fields;
}

std::vector<Row> csv_rows(std::string_view text) {
    std::vector<std::string> header;
    std::vector<Row> rows;
    size_t at = 0, line = 0;
    while (at < text.size()) {
        std::vector<std::string> fields = in_context(fmt::format("row {}", line + 1), [&] { return csv_line(text, at); });
        line++;
        if (fields.size() == 1 && fields[0].empty()) continue;
        if (header.empty()) {
            bool named = std::find(fields.begin(), fields.end(), "question") != fields.end() ||
                         std::find(fields.begin(), fields.end(), "answer") != fields.end();
            header = named || fields.size() != 6 ? fields : std::vector<std::string>{"question", "choice0", "choice1",
                                                                                     "choice2",  "choice3", "answer"};
            if (named || fields.size() != 6) continue;
        }
        if (fields.size() != header.size())
            fail("row {}: expected {} fields as in the first line, found {}", line, header.size(), fields.size());
        Row row{line, json::object()};
        for (size_t i = 0; i < fields.size(); i++) row.row[header[i]] = utf8_lossy(fields[i]);
        rows.push_back(std::move(row));
    }
    return rows;
}

std::vector<Row> json_rows(std::string_view text) {
    json all = parse_json(text, "JSON");
    std::vector<Row> rows;
    const json* list = &all;
    if (all.is_object() && all.contains("rows")) list = &all["rows"];
    if (!list->is_array()) fail("expected an array of objects, or {{\"rows\": [...]}}");
    for (const json& value : *list) {
        const json& row = value.is_object() && value.contains("row") ? value["row"] : value;
        if (!row.is_object()) fail("row {}: expected an object", rows.size() + 1);
        rows.push_back({rows.size() + 1, row});
    }
    return rows;
}

std::vector<Row> line_rows(std::string_view text) {
    std::vector<Row> rows;
    size_t line = 0;
    while (!text.empty()) {
        size_t end = std::min(text.find('\n'), text.size());
        std::string_view one = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        line++;
        if (strip(one).empty()) continue;
        json row = parse_json(one, fmt::format("row {}", line));
        if (!row.is_object()) fail("row {}: expected a JSON object", line);
        rows.push_back({line, std::move(row)});
    }
    return rows;
}

}  // namespace

std::vector<Row> read_rows(const std::filesystem::path& file) {
    return in_context(file.string(), [&] {
        std::string text = read_corpus_text(file, size_t(1) << 29);
        std::filesystem::path name = file;
        if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
        std::vector<Row> rows = name.extension() == ".csv"    ? csv_rows(text)
                                : name.extension() == ".json" ? json_rows(text)
                                                              : line_rows(text);
        if (rows.empty()) fail("holds no rows");
        return rows;
    });
}

bool has(const json& row, const char* key) { return row.contains(key); }

std::string text_field(const json& row, const char* key) {
    const json& value = field(row, key);
    if (!value.is_string()) fail("\"{}\": expected text, found {}", key, printable(value.dump(), 60));
    return value.get<std::string>();
}

std::vector<std::string> list_field(const json& row, const char* key) {
    const json& value = field(row, key);
    if (!value.is_array() || value.empty() || value.size() > 1000)
        fail("\"{}\": expected a list of texts, found {}", key, printable(value.dump(), 60));
    std::vector<std::string> out;
    for (const json& one : value) {
        if (!one.is_string()) fail("\"{}\": expected a list of texts, found {} in it", key, printable(one.dump(), 60));
        out.push_back(one.get<std::string>());
    }
    return out;
}

int64_t whole_number(const json& value) {
    if (value.is_number_integer()) return value.get<int64_t>();
    return value.is_boolean() ? int64_t(value.get<bool>()) : -1;
}

int index_field(const json& row, const char* key, size_t count) {
    const json& value = field(row, key);
    int64_t index = whole_number(value);
    if (value.is_string()) {
        std::string digits(strip(value.get_ref<const std::string&>()));
        auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
        if (error != std::errc() || end != digits.data() + digits.size()) index = -1;
    }
    if (index < 0 || index >= int64_t(count))
        fail("\"{}\": expected a number from 0 to {} that says which choice is right, found {}", key, count - 1,
             printable(value.dump(), 60));
    return int(index);
}

}  // namespace vkqat

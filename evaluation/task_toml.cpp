#include "evaluation/task_toml.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "evaluation/rows.h"
#include "evaluation/text.h"
#include "runtime/support/files.h"
#include "trainer/toml_text.h"

namespace vkqat {
namespace {

using nlohmann::json;

// "a.b[2].c" in a row.
const json& find_path(const json& row, std::string_view path) {
    const json* at = &row;
    std::string_view rest = path;
    while (!rest.empty()) {
        size_t end = std::min(rest.find_first_of(".["), rest.size());
        std::string key(rest.substr(0, end));
        if (!key.empty()) {
            if (!at->is_object() || !at->contains(key)) fail("there is no \"{}\"", printable(path, 80));
            at = &(*at)[key];
        }
        rest.remove_prefix(end);
        if (rest.empty()) break;
        if (rest[0] == '.') {
            rest.remove_prefix(1);
            continue;
        }
        size_t close = rest.find(']'), index = 0;
        if (close == rest.npos) fail("{}: a [ without ]", printable(path, 80));
        auto [stop, error] = std::from_chars(rest.data() + 1, rest.data() + close, index);
        if (error != std::errc() || stop != rest.data() + close) fail("{}: expected a number in []", printable(path, 80));
        if (!at->is_array() || index >= at->size()) fail("there is no \"{}\"", printable(path, 80));
        at = &(*at)[index];
        rest.remove_prefix(close + 1);
    }
    return *at;
}

std::string as_text(const json& value, std::string_view path) {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number() || value.is_boolean()) return value.dump();
    fail("\"{}\": expected text, found {}", printable(path, 80), printable(value.dump(), 60));
}

std::string fill_in(std::string_view pattern, const json& row) {
    std::string out;
    while (true) {
        size_t open = pattern.find("{{");
        out += pattern.substr(0, open);
        if (open == pattern.npos) return out;
        size_t close = pattern.find("}}", open);
        if (close == pattern.npos) fail("a {{{{ without }}}} in \"{}\"", printable(pattern, 60));
        std::string_view path = strip(pattern.substr(open + 2, close - open - 2));
        bool stripped = false;
        if (size_t bar = path.find('|'); bar != path.npos) {
            if (strip(path.substr(bar + 1)) != "strip") fail("{}: the only filter is strip", printable(path, 80));
            stripped = true;
            path = strip(path.substr(0, bar));
        }
        std::string text = as_text(find_path(row, path), path);
        out += stripped ? std::string(strip(text)) : text;
        pattern.remove_prefix(close + 2);
    }
}

constexpr const char* keys[] = {
    "name",         "data",           "scoring",           "prompt", "choices",       "gold",       "target",
    "delimiter",    "description",    "few_shot",          "until",  "few_shot_data", "max_tokens", "numeric",
    "answer_match", "answer_pattern", "few_shot_delimiter"};

// The description as it stands in the file.
struct Description {
    toml::table table;

    std::string text(const char* key, const char* otherwise = nullptr) const {
        const toml::node* node = table.get(key);
        if (!node && otherwise) return otherwise;
        if (!node) fail("\"{}\" is missing", key);
        if (!node->is_string()) fail("\"{}\": expected text", key);
        return node->as_string()->get();
    }
    int64_t number(const char* key, int64_t otherwise, int64_t highest) const {
        const toml::node* node = table.get(key);
        if (!node) return otherwise;
        auto value = node->value_exact<int64_t>();
        if (!value || *value < 0 || *value > highest) fail("\"{}\": expected a number from 0 to {}", key, highest);
        return *value;
    }
    bool flag(const char* key) const {
        const toml::node* node = table.get(key);
        if (!node) return false;
        auto value = node->value_exact<bool>();
        if (!value) fail("\"{}\": expected true or false", key);
        return *value;
    }
    std::vector<std::string> list(const char* key) const {
        const toml::node* node = table.get(key);
        std::vector<std::string> out;
        if (!node) return out;
        if (!node->is_array()) fail("\"{}\": expected a list of texts", key);
        for (const toml::node& one : *node->as_array()) {
            if (!one.is_string()) fail("\"{}\": expected a list of texts", key);
            out.push_back(one.as_string()->get());
        }
        return out;
    }
};

int right_choice(const json& value, const std::vector<std::string>& choices, const std::string& path) {
    int64_t index = whole_number(value);
    if (value.is_string()) {
        std::string text(strip(value.get_ref<const std::string&>()));
        auto found = std::find(choices.begin(), choices.end(), text);
        if (found != choices.end())
            index = found - choices.begin();
        else if (text.size() == 1 && text[0] >= 'A' && text[0] <= 'Z')
            index = text[0] - 'A';
        else if (text.size() == 1 && text[0] >= '0' && text[0] <= '9')
            index = text[0] - '0';
    }
    if (index < 0 || index >= int64_t(choices.size()))
        fail("\"{}\": expected an index below {}, a letter, or the text of a choice, found {}", printable(path, 40),
             choices.size(), printable(value.dump(), 60));
    return int(index);
}

Question question_of(const Description& d, const json& row, TaskKind kind) {
    Question q;
    const std::string prompt = fill_in(d.text("prompt"), row), delimiter = d.text("delimiter", " ");
    if (kind != TaskKind::choices) {
        q.answer = fill_in(d.text("target"), row);
        q.contexts = {prompt};
        q.continuations = {delimiter + q.answer};
        q.choices = {q.answer};
        return q;
    }
    const toml::node* choices = d.table.get("choices");
    if (choices && choices->is_string()) {
        const std::string path = choices->as_string()->get();
        const json& list = find_path(row, path);
        if (!list.is_array()) fail("\"{}\": expected a list of texts", printable(path, 40));
        for (const json& one : list) q.choices.push_back(as_text(one, path));
    } else {
        for (const std::string& one : d.list("choices")) q.choices.push_back(fill_in(one, row));
    }
    if (q.choices.size() < 2 || q.choices.size() > 1000) fail("\"choices\": expected at least 2, found {}", q.choices.size());
    q.gold = right_choice(find_path(row, d.text("gold")), q.choices, d.text("gold"));
    for (const std::string& choice : q.choices) {
        q.contexts.push_back(prompt);
        q.continuations.push_back(delimiter + choice);
    }
    return q;
}

}  // namespace

Task load_toml_task(const std::filesystem::path& file, const TaskOptions& options) {
    Description d{parse_toml(read_text_file(file, max_toml_bytes), file.string())};
    return in_context(file.string(), [&] {
        for (const auto& [key, value] : d.table)
            if (std::none_of(std::begin(keys), std::end(keys), [&](const char* k) { return key.str() == k; }))
                fail("unknown key \"{}\"; known are {}", printable(key.str(), 40), fmt::join(keys, ", "));
        Task task{.name = d.text("name"), .file = file.parent_path() / d.text("data")};
        if (task.name.empty() || task.name.find_first_of("/\\\n") != std::string::npos || task.name.size() > 100)
            fail("\"name\": expected a short name without / in it");
        const std::string scoring = d.text("scoring", "choices");
        if (scoring != "choices" && scoring != "target" && scoring != "generation")
            fail("\"scoring\": expected choices, target or generation, found \"{}\"", printable(scoring, 40));
        task.kind = scoring == "choices" ? TaskKind::choices : scoring == "target" ? TaskKind::target : TaskKind::generation;
        task.few_shot = options.few_shot >= 0 ? options.few_shot : int(d.number("few_shot", 0, 100));
        task.until = d.list("until");
        task.max_tokens = std::max<int64_t>(1, d.number("max_tokens", 256, 1 << 20));
        task.numeric = d.flag("numeric");
        const std::string match = d.text("answer_match", "first");
        if (match != "first" && match != "last") fail("\"answer_match\": expected first or last");
        task.patterns = {{"exact_match", d.text("answer_pattern", ""), match == "last"}};
        auto questions = [&](const std::filesystem::path& rows, int64_t limit) {
            std::vector<Question> out;
            for (Row& row : read_rows(rows)) {
                if (limit > 0 && int64_t(out.size()) == limit) break;
                out.push_back(in_context(fmt::format("{}: row {}", rows.string(), row.number),
                                         [&] { return question_of(d, row.row, task.kind); }));
                out.back().row = row.number;
            }
            return out;
        };
        task.questions = questions(task.file, options.limit);
        std::vector<Question> examples;
        if (task.few_shot > 0) examples = questions(file.parent_path() / d.text("few_shot_data"), task.few_shot);
        add_examples(task, d.text("description", ""), examples, d.text("few_shot_delimiter", "\n\n"));
        return task;
    });
}

}  // namespace vkqat

#include "evaluation/task.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "evaluation/rows.h"
#include "evaluation/task_toml.h"
#include "evaluation/text.h"
#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A question whose choices follow one context.
Question ask(std::string context, std::vector<std::string> choices, int gold) {
    Question q;
    for (const std::string& choice : choices) {
        q.contexts.push_back(context);
        q.continuations.push_back(" " + choice);
    }
    q.choices = std::move(choices);
    q.gold = gold;
    return q;
}

bool llm_foundry(const json& row) { return has(row, "query") && has(row, "choices") && has(row, "gold"); }

Question ask_llm_foundry(const json& row, std::string context) {
    std::vector<std::string> choices = list_field(row, "choices");
    int gold = index_field(row, "gold", choices.size());
    return ask(std::move(context), std::move(choices), gold);
}

// Without what stands in brackets, which are artefacts of WikiHow.
std::string clean_hellaswag(std::string_view text) {
    std::string out = replace_all(std::string(strip(text)), " [title]", ". ");
    for (size_t at = 0; (at = out.find('[', at)) != out.npos;) {
        size_t end = out.find_first_of("]\n", at);
        if (end != out.npos && out[end] == ']')
            out.erase(at, end + 1 - at);
        else
            at++;
    }
    return replace_all(out, "  ", " ");
}

Question hellaswag(const json& row) {
    if (llm_foundry(row)) return ask_llm_foundry(row, text_field(row, "query"));
    std::vector<std::string> endings = list_field(row, "endings");
    for (std::string& ending : endings) ending = clean_hellaswag(ending);
    int gold = index_field(row, "label", endings.size());
    return ask(clean_hellaswag(text_field(row, "activity_label") + ": " + text_field(row, "ctx_a") + " " +
                               capitalize(text_field(row, "ctx_b"))),
               std::move(endings), gold);
}

// The choices are contexts, and what follows them is scored.
Question winogrande(const json& row) {
    Question q;
    std::string rest;
    if (has(row, "context_options")) {
        q.choices = list_field(row, "context_options");
        rest = text_field(row, "continuation");
        q.gold = index_field(row, "gold", q.choices.size());
    } else {
        std::string sentence = text_field(row, "sentence"), answer = text_field(row, "answer");
        size_t blank = sentence.find('_');
        if (blank == sentence.npos) fail("\"sentence\": expected a _ in it, found {}", printable(sentence, 60));
        if (answer != "1" && answer != "2") fail("\"answer\": expected \"1\" or \"2\", found \"{}\"", printable(answer, 20));
        for (const char* option : {"option1", "option2"})
            q.choices.push_back(sentence.substr(0, blank) + text_field(row, option));
        rest = strip(std::string_view(sentence).substr(blank + 1));
        q.gold = answer == "2";
    }
    q.contexts = q.choices;
    q.continuations.assign(q.choices.size(), " " + rest);
    return q;
}

Question piqa(const json& row) {
    if (llm_foundry(row)) return ask_llm_foundry(row, text_field(row, "query") + "Answer:");
    return ask("Question: " + text_field(row, "goal") + "\nAnswer:", {text_field(row, "sol1"), text_field(row, "sol2")},
               index_field(row, "label", 2));
}

Question boolq(const json& row) {
    if (llm_foundry(row)) {
        std::string query = text_field(row, "query");
        if (query.starts_with("Passage: ")) query.erase(0, 9);
        return ask_llm_foundry(row, query + "\nAnswer:");
    }
    return ask(text_field(row, "passage") + "\nQuestion: " + text_field(row, "question") + "?\nAnswer:", {"no", "yes"},
               index_field(row, has(row, "label") ? "label" : "answer", 2));
}

// The right one's place in {"text": [...], "label": ["A", ...]}.
std::pair<std::vector<std::string>, int> lettered_choices(const json& row, std::string key) {
    auto found = row.find("choices");
    if (found == row.end() || !found->is_object()) fail("\"choices\": expected an object with \"text\" and \"label\"");
    std::vector<std::string> texts = list_field(*found, "text"), labels = list_field(*found, "label");
    if (texts.size() != labels.size()) fail("\"choices\": {} texts, but {} labels", texts.size(), labels.size());
    auto at = std::find(labels.begin(), labels.end(), key);
    if (at == labels.end())
        fail("\"answerKey\" is \"{}\", but the labels are {}", printable(key, 20),
             printable(fmt::format("{}", fmt::join(labels, ", "))));
    return {std::move(texts), int(at - labels.begin())};
}

Question arc(const json& row) {
    if (llm_foundry(row)) return ask_llm_foundry(row, text_field(row, "query") + "\nAnswer:");
    auto [texts, gold] = lettered_choices(row, text_field(row, "answerKey"));
    return ask("Question: " + text_field(row, "question") + "\nAnswer:", std::move(texts), gold);
}

Question openbookqa(const json& row) {
    if (llm_foundry(row)) return ask_llm_foundry(row, text_field(row, "query"));
    auto [texts, gold] = lettered_choices(row, std::string(strip(text_field(row, "answerKey"))));
    return ask(text_field(row, "question_stem"), std::move(texts), gold);
}

Question lambada(const json& row) {
    Question q;
    if (has(row, "continuation")) {
        q.contexts = {text_field(row, "context")};
        q.continuations = {text_field(row, "continuation")};
        if (!q.continuations[0].starts_with(' ')) q.continuations[0].insert(0, " ");
    } else {
        std::string text = text_field(row, "text");
        size_t space = text.rfind(' ');
        q.contexts = {space == text.npos ? "" : text.substr(0, space)};
        q.continuations = {" " + (space == text.npos ? text : text.substr(space + 1))};
    }
    q.choices = {q.continuations[0].substr(1)};
    return q;
}

Question mmlu(const json& row) {
    std::vector<std::string> choices;
    if (has(row, "choices"))
        choices = list_field(row, "choices");
    else
        for (int i = 0; i < 4; i++) choices.push_back(text_field(row, fmt::format("choice{}", i).c_str()));
    if (choices.size() != 4) fail("expected 4 choices, found {}", choices.size());
    int gold = -1;
    if (row.contains("answer") && row["answer"].is_string()) {
        std::string letter(strip(text_field(row, "answer")));
        if (letter.size() == 1 && letter[0] >= 'A' && letter[0] <= 'D') gold = letter[0] - 'A';
    }
    if (gold < 0) gold = index_field(row, "answer", 4);
    std::string context(strip(text_field(row, "question")));
    for (int i = 0; i < 4; i++) context += fmt::format("\n{}. {}", char('A' + i), choices[size_t(i)]);
    return ask(context + "\nAnswer:", {"A", "B", "C", "D"}, gold);
}

Question gsm8k(const json& row) {
    Question q;
    q.contexts = {"Question: " + text_field(row, "question") + "\nAnswer:"};
    q.answer = text_field(row, "answer");
    q.continuations = {" " + q.answer};
    return q;
}

struct Known {
    const char* name;
    Question (*question)(const json&);
    TaskKind kind = TaskKind::choices;
    int few_shot = 0;
    bool normalised = true;
};
constexpr Known known[] = {
    {"hellaswag", hellaswag},
    {"winogrande", winogrande, TaskKind::choices, 0, false},
    {"piqa", piqa},
    {"boolq", boolq, TaskKind::choices, 0, false},
    {"arc_easy", arc},
    {"arc_challenge", arc},
    {"openbookqa", openbookqa},
    {"lambada", lambada, TaskKind::target},
    {"mmlu", mmlu, TaskKind::choices, 5, false},
    {"gsm8k", gsm8k, TaskKind::generation, 5},
};

const Known& find_known(const std::string& name) {
    for (const Known& one : known)
        if (name == one.name) return one;
    fail("there is no task '{}'; known are {}, and any in a .toml file", printable(name, 60), fmt::join(known_tasks(), ", "));
}

std::vector<Question> questions_of(const fs::path& file, const Known& task, int64_t limit) {
    std::vector<Question> questions;
    for (Row& row : read_rows(file)) {
        if (limit > 0 && int64_t(questions.size()) == limit) break;
        questions.push_back(in_context(fmt::format("{}: row {}: {}", file.string(), row.number, task.name),
                                       [&] { return task.question(row.row); }));
        questions.back().row = row.number;
    }
    return questions;
}

// Subjects of a folder with dev and test, by name.
std::vector<Task> load_mmlu(const fs::path& folder, const TaskOptions& options) {
    const Known& task = find_known("mmlu");
    const int few_shot = options.few_shot < 0 ? task.few_shot : options.few_shot;
    std::vector<Task> tasks;
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder / "test")) {
        std::string name = entry.path().filename().string();
        if (name.ends_with("_test.csv") || name.ends_with("_test.jsonl")) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    if (files.empty()) fail("{}: expected files named SUBJECT_test.csv or SUBJECT_test.jsonl", (folder / "test").string());
    for (const fs::path& file : files) {
        std::string subject = file.stem().string();
        subject.resize(subject.size() - 5);
        Task t{.name = "mmlu_" + subject, .group = "mmlu", .file = file, .few_shot = few_shot, .normalised = false};
        t.questions = questions_of(file, task, options.limit);
        std::vector<Question> examples;
        if (few_shot > 0)
            examples = questions_of(folder / "dev" / (subject + "_dev" + file.extension().string()), task, few_shot);
        add_examples(t,
                     fmt::format("The following are multiple choice questions (with answers) about {}.\n\n",
                                 replace_all(subject, "_", " ")),
                     examples, "\n\n");
        tasks.push_back(std::move(t));
    }
    return tasks;
}

// The known task that a file's name holds; the longest name counts. Empty: none.
std::string task_in_name(const fs::path& file) {
    std::string name = file.filename().string(), best;
    std::replace(name.begin(), name.end(), '-', '_');
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    for (const Known& one : known)
        if (name.find(one.name) != name.npos && std::string_view(one.name).size() > best.size()) best = one.name;
    return best;
}

}  // namespace

const std::vector<std::string>& known_tasks() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> all;
        for (const Known& one : known) all.push_back(one.name);
        return all;
    }();
    return names;
}

void add_examples(Task& task, const std::string& description, const std::vector<Question>& examples, const std::string& between) {
    if (int(examples.size()) < task.few_shot)
        fail("{}: {} worked examples are wanted, but there are {}", task.name, task.few_shot, examples.size());
    std::string front = description;
    for (int i = 0; i < task.few_shot; i++) {
        const Question& e = examples[size_t(i)];
        front += e.contexts[size_t(e.gold)] + e.continuations[size_t(e.gold)] + between;
    }
    for (Question& q : task.questions)
        for (std::string& context : q.contexts) context.insert(0, front);
}

std::string Task::digest() const {
    uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
    auto add = [&](std::string_view text) {
        for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
        hash = (hash ^ 0x100) * 0x100000001b3;  // no byte: "ab" "c" differs from "a" "bc"
    };
    add(fmt::format("{} {} {} {} {}", name, int(kind), max_tokens, numeric, questions.size()));
    for (const std::string& text : until) add(text);
    for (const AnswerPattern& p : patterns) add(fmt::format("{} {} {}", p.name, p.pattern, p.last));
    for (const Question& q : questions) {
        for (size_t i = 0; i < q.contexts.size(); i++) {
            if (i == 0 || q.contexts[i] != q.contexts[0]) add(q.contexts[i]);
            if (i < q.continuations.size()) add(q.continuations[i]);
        }
        for (const std::string& choice : q.choices) add(choice);
        add(fmt::format("{} {}", q.gold, q.answer));
    }
    return fmt::format("{:016x}", hash);
}

std::vector<TaskRequest> find_tasks(const std::string& text) {
    TaskRequest request;
    size_t equals = text.find('=');
    std::string path = text;
    if (equals != text.npos && text.find('/') >= equals) {
        request.name = find_known(text.substr(0, equals)).name;
        path = text.substr(equals + 1);
    }
    size_t comma = path.find(',');
    if (comma != path.npos && !has_file(path)) {
        request.examples = path.substr(comma + 1);
        path.resize(comma);
    }
    request.path = path;
    for (const fs::path& file : {request.path, request.examples})
        if (!file.empty() && !has_file(file)) fail("{}: there is no such file or folder", file.string());
    const bool folder = fs::is_directory(request.path);
    if (!folder) {
        if (request.name.empty() && request.path.extension() != ".toml") {
            request.name = task_in_name(request.path);
            if (request.name.empty())
                fail("{}: the name holds that of no task: expected NAME=FILE with one of {}, or a .toml file", path,
                     fmt::join(known_tasks(), ", "));
        }
        return {request};
    }
    if (has_file(request.path / "test") && (request.name == "mmlu" || request.name.empty())) {
        request.name = "mmlu";
        return {request};
    }
    if (!request.name.empty()) fail("{}: is a folder; {} is read from a file", path, request.name);
    std::vector<TaskRequest> all;
    for (const fs::directory_entry& entry : fs::directory_iterator(request.path)) {
        std::string name = task_in_name(entry.path());
        if (entry.is_directory() ? name == "mmlu" && has_file(entry.path() / "test") : !name.empty() && name != "mmlu")
            all.push_back({name, entry.path(), {}});
    }
    if (all.empty()) fail("{}: holds no file whose name names a task ({})", path, fmt::join(known_tasks(), ", "));
    std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.path < b.path; });
    return all;
}

std::vector<Task> load_tasks(const TaskRequest& request, const TaskOptions& options) {
    if (request.name.empty()) return {load_toml_task(request.path, options)};
    if (request.name == "mmlu" && fs::is_directory(request.path)) return load_mmlu(request.path, options);
    const Known& one = find_known(request.name);
    Task task{.name = one.name, .file = request.path, .kind = one.kind, .normalised = one.normalised};
    task.few_shot = options.few_shot >= 0 ? options.few_shot : one.few_shot;
    task.questions = questions_of(request.path, one, options.limit);
    if (task.kind == TaskKind::generation) {
        task.until = {"Question:", "</s>", "<|im_end|>"};
        task.numeric = true;
        task.patterns = {{"strict-match", "(?<=#### )-?[0-9.,]+", false}, {"flexible-extract", "-?[$0-9.,]{2,}|-?[0-9]+", true}};
    }
    if (task.few_shot > 0) {
        if (request.examples.empty())
            fail("{}: {} needs {} worked examples: {}=FILE,FILE OF EXAMPLES, or --few-shot 0", request.path.string(), task.name,
                 task.few_shot, task.name);
        add_examples(task, "", questions_of(request.examples, one, task.few_shot), "\n\n");
    }
    return {std::move(task)};
}

}  // namespace vkqat

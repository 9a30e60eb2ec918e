#include "evaluation/store.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string line_of(const nlohmann::ordered_json& value) {
    return value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

nlohmann::ordered_json header_of(const StoreKey& key) {
    return {{"model_digest", key.model_digest},
            {"task", key.task},
            {"task_digest", key.task_digest},
            {"device", key.device},
            {"harness", harness_version}};
}

}  // namespace

ScoreStore::ScoreStore(const fs::path& file, const StoreKey& key, const Task& task)
    : scores(task.questions.size()), answers(task.questions.size()), path_(file), task_(task), file_(nullptr, &std::fclose) {
    std::string text = has_file(file) ? read_text_file(file) : "";
    text.resize(text.rfind('\n') == text.npos ? 0 : text.rfind('\n') + 1);
    if (!text.empty()) {
        in_context(file.string(), [&] {
            const nlohmann::ordered_json header = header_of(key);
            size_t at = 0, number = 0;
            while (at < text.size()) {
                size_t end = text.find('\n', at);
                json line = parse_json(std::string_view(text).substr(at, end - at), fmt::format("line {}", ++number));
                at = end + 1;
                if (number == 1) {
                    for (auto& [name, value] : header.items()) {
                        std::string wanted = value.dump(), found = "none";
                        if (line.is_object() && line.contains(name)) found = line[name].dump();
                        if (found != wanted)
                            fail("holds scores with another {}: expected {}, found {}; remove the file or take another folder",
                                 name, wanted, printable(found, 60));
                    }
                    continue;
                }
                try {
                    auto question = line.at("question").get<size_t>();
                    const size_t choices = task.questions.at(question).continuations.size();
                    if (task.kind == TaskKind::generation) {
                        Answer a{line.at("text"), line.at("found").get<std::vector<std::string>>(),
                                 line.at("right").get<std::vector<bool>>()};
                        if (a.found.size() != task.patterns.size() || a.right.size() != a.found.size())
                            fail("line {}: expected {} answers", number, task.patterns.size());
                        answers[question] = std::move(a);
                    } else {
                        QuestionScore s{line.at("log_likelihood").get<std::vector<double>>(),
                                        line.at("greedy").get<std::vector<bool>>()};
                        if (s.log_likelihood.size() != choices || s.greedy.size() != choices)
                            fail("line {}: expected {} choices", number, choices);
                        scores[question] = std::move(s);
                    }
                } catch (const json::exception& e) {
                    fail("line {}: {}", number, printable(e.what(), 120));
                } catch (const std::out_of_range&) {
                    fail("line {}: the task has only {} questions", number, task.questions.size());
                }
            }
        });
    }
    if (!file.parent_path().empty()) fs::create_directories(file.parent_path());
    if (text.empty()) write_text_file(file, line_of(header_of(key)));
    file_.reset(std::fopen(file.c_str(), "r+b"));
    if (!file_) fail("{}: cannot be opened for writing", file.string());
    if (!text.empty() && ::ftruncate(::fileno(file_.get()), off_t(text.size())) != 0) fail("{}: cannot be cut", file.string());
    std::fseek(file_.get(), 0, SEEK_END);
}

ScoreStore::~ScoreStore() = default;

void ScoreStore::write(const std::string& line) {
    if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size() || std::fflush(file_.get()) != 0)
        fail("{}: cannot be written; is the disk full?", path_.string());
}

void ScoreStore::add(size_t question, const QuestionScore& score) {
    const Question& q = task_.questions[question];
    scores[question] = score;
    write(line_of({{"question", question},
                   {"row", q.row},
                   {"gold", q.gold},
                   {"log_likelihood", score.log_likelihood},
                   {"greedy", score.greedy}}));
}

void ScoreStore::add(size_t question, const Answer& answer) {
    answers[question] = answer;
    write(line_of({{"question", question},
                   {"row", task_.questions[question].row},
                   {"text", answer.text},
                   {"found", answer.found},
                   {"right", answer.right}}));
}

}  // namespace vkqat

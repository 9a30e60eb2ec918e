#include "tools/eval_tasks.h"

#include <algorithm>
#include <future>
#include <map>
#include <nlohmann/json.hpp>

#include "evaluation/generation.h"
#include "evaluation/likelihood.h"
#include "evaluation/metrics.h"
#include "evaluation/store.h"
#include "runtime/formats/json_text.h"
#include "tools/console.h"
#include "tools/model.h"
#include "tools/speed.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct TaskResult {
    const Task* task;
    std::vector<Metric> metrics;
    LikelihoodWork work;
    GenerationWork generation;
    std::string error;
};

struct ModelResult {
    std::string path, name, digest;
    uint64_t weight_bytes = 0, peak_bytes = 0;
    Speed speed;
    double seconds = 0;
    std::vector<TaskResult> tasks;
};

void run_task(TaskResult& result, const LlamaWeights& weights, const Tokenizer& tokenizer, const std::vector<int32_t>& ends,
              ScoreStore* store, int64_t batch_tokens, ModelResult& model, uint64_t free_before) {
    const Task& task = *result.task;
    ProgressLine progress;
    const std::string what = model.name + ", " + task.name;
    auto watch_memory = [&] {
        const uint64_t free = weights.device().free_memory();
        model.peak_bytes = std::max(model.peak_bytes, free_before > free ? free_before - free : 0);
    };
    if (task.kind == TaskKind::generation) {
        std::vector<std::optional<Answer>> answers(task.questions.size());
        if (store) answers = store->answers;
        double known = 0;
        for (const auto& answer : answers) known += answer.has_value();
        result.generation = answer_questions(weights, tokenizer, ends, task, answers, [&](size_t question, const Answer& answer) {
            if (store) store->add(question, answer);
            watch_memory();
            progress.show(what, ++known, double(answers.size()));
        });
        result.metrics = metrics_of(task, answers);
        return;
    }
    std::vector<std::optional<QuestionScore>> scores(task.questions.size());
    if (store) scores = store->scores;
    LikelihoodOptions options{.batch_tokens = batch_tokens};
    options.progress = [&](double done, double total) {
        watch_memory();
        progress.show(what, done, total);
    };
    if (store) options.done = [&](size_t question, const QuestionScore& score) { store->add(question, score); };
    result.work = score_questions(weights, tokenizer, task, scores, options);
    result.metrics = metrics_of(task, scores);
}

ModelResult evaluate_model(Gpu& gpu, const std::string& path, const std::vector<Task>& tasks, const TaskEvaluation& e) {
    const fs::path directory = path;
    ModelResult model{.path = path, .name = model_name(directory)};
    const LlamaConfig config = read_llama_config(directory);
    const Tokenizer tokenizer = need_tokenizer(directory, config);
    const std::vector<int32_t> ends = end_ids(read_generation_config(directory), tokenizer);
    std::future<std::string> digest = std::async(std::launch::async, [&] { return model_digest(directory); });
    const uint64_t free_before = gpu.device.free_memory();
    const LlamaWeights weights = load_weights(gpu, directory);
    model.weight_bytes = weights.bytes();
    if (!e.save.empty()) model.digest = digest.get();
    Stopwatch time;
    for (const Task& task : tasks) {
        TaskResult result{.task = &task};
        try {
            std::unique_ptr<ScoreStore> store;
            if (!e.save.empty())
                store = std::make_unique<ScoreStore>(
                    fs::path(e.save) / fmt::format("{}-{}", model.name, model.digest.substr(0, 8)) / (task.name + ".jsonl"),
                    StoreKey{model.digest, task.name, task.digest(), gpu.device.capabilities().name}, task);
            run_task(result, weights, tokenizer, ends, store.get(), e.batch_tokens, model, free_before);
        } catch (const Error& error) {
            result.error = error.what();
            std::fprintf(stderr, "vkqat: %s: %s: %s\n", path.c_str(), task.name.c_str(), error.what());
        }
        model.tasks.push_back(std::move(result));
    }
    model.seconds = time.seconds();
    model.speed = measure_speed(weights);
    if (model.digest.empty()) model.digest = digest.get();
    return model;
}

// The tasks of one group with results, by the group's name.
std::map<std::string, std::vector<const TaskResult*>> groups_of(const ModelResult& model) {
    std::map<std::string, std::vector<const TaskResult*>> groups;
    for (const TaskResult& result : model.tasks)
        if (!result.task->group.empty() && !result.metrics.empty()) groups[result.task->group].push_back(&result);
    return groups;
}

std::vector<Metric> group_metrics(const std::vector<const TaskResult*>& group, int64_t& questions) {
    std::vector<std::vector<Metric>> metrics;
    std::vector<int64_t> counts;
    questions = 0;
    for (const TaskResult* result : group) {
        metrics.push_back(result->metrics);
        counts.push_back(int64_t(result->task->questions.size()));
        questions += counts.back();
    }
    return pooled(metrics, counts);
}

ordered_json json_of(const std::vector<Metric>& metrics) {
    ordered_json out = ordered_json::object();
    for (const Metric& m : metrics) {
        out[m.name] = m.value;
        out[m.name + "_stderr"] = m.error;
    }
    return out;
}

ordered_json json_of(const TaskResult& result) {
    const Task& t = *result.task;
    ordered_json out{{"task", t.name},
                     {"file", t.file.string()},
                     {"task_digest", t.digest()},
                     {"few_shot", t.few_shot},
                     {"questions", t.questions.size()}};
    if (!result.error.empty()) {
        out["error"] = result.error;
        return out;
    }
    out["metrics"] = json_of(result.metrics);
    if (t.kind == TaskKind::generation) {
        out["prompt_tokens"] = result.generation.prompt_tokens;
        out["generated_tokens"] = result.generation.tokens;
        out["seconds"] = result.generation.seconds;
    } else {
        out["tokens"] = result.work.tokens;
        out["computed_tokens"] = result.work.computed;
        out["seconds"] = result.work.seconds;
        if (result.work.seconds > 0) out["tokens_per_second"] = double(result.work.tokens) / result.work.seconds;
    }
    return out;
}

void print_json(const std::vector<ModelResult>& models, Gpu& gpu) {
    const Capabilities& device = gpu.device.capabilities();
    ordered_json out{
        {"version", VKQAT_VERSION}, {"harness", harness_version}, {"device", device.name}, {"driver", device.driver}};
    for (const ModelResult& m : models) {
        ordered_json one{{"model", m.path},
                         {"model_digest", m.digest},
                         {"weight_bytes", m.weight_bytes},
                         {"peak_memory_bytes", m.peak_bytes},
                         {"seconds", m.seconds},
                         {"prompt_tokens", m.speed.prompt},
                         {"first_token_seconds", m.speed.first_token_seconds},
                         {"decode_tokens_per_second", m.speed.decode_rate},
                         {"tasks", ordered_json::array()}};
        for (const TaskResult& result : m.tasks) one["tasks"].push_back(json_of(result));
        for (auto& [name, results] : groups_of(m)) {
            int64_t questions = 0;
            ordered_json metrics = json_of(group_metrics(results, questions));
            one["groups"].push_back(
                {{"task", name}, {"subjects", results.size()}, {"questions", questions}, {"metrics", metrics}});
        }
        out["models"].push_back(std::move(one));
    }
    std::printf("%s\n", out.dump(2, ' ', false, ordered_json::error_handler_t::replace).c_str());
}

std::string cell_of(const Metric& m) {
    if (m.name == "perplexity") return fmt::format("{:.2f} ± {:.2f}", m.value, m.error);
    return fmt::format("{:.2f} ± {:.2f} %", 100 * m.value, 100 * m.error);
}

void print_table(const std::vector<ModelResult>& models, Gpu& gpu) {
    std::vector<std::string> headers{"task", ">few-shot", ">questions", "metric"};
    for (const ModelResult& m : models) headers.push_back(">" + m.name);
    Table table(headers);
    // Rows by task and metric; a value of each model.
    struct Line {
        std::string task, metric;
        int few_shot;
        int64_t questions;
        std::vector<std::string> cells;
    };
    std::vector<Line> lines;
    for (size_t i = 0; i < models.size(); i++) {
        auto add = [&](const std::string& name, int few_shot, int64_t questions, const std::vector<Metric>& metrics,
                       bool normalised) {
            for (const Metric& m : metrics) {
                if (m.name == "acc_bytes" || (m.name == "acc_norm" && !normalised)) continue;
                auto at =
                    std::find_if(lines.begin(), lines.end(), [&](const Line& l) { return l.task == name && l.metric == m.name; });
                if (at == lines.end()) {
                    lines.push_back({name, m.name, few_shot, questions, std::vector<std::string>(models.size(), "-")});
                    at = lines.end() - 1;
                }
                at->cells[i] = cell_of(m);
            }
        };
        for (const TaskResult& r : models[i].tasks)
            if (r.task->group.empty())
                add(r.task->name, r.task->few_shot, int64_t(r.task->questions.size()), r.metrics, r.task->normalised);
        for (auto& [name, results] : groups_of(models[i])) {
            int64_t questions = 0;
            std::vector<Metric> metrics = group_metrics(results, questions);
            add(name, results[0]->task->few_shot, questions, metrics, false);
        }
    }
    for (Line& line : lines) {
        std::vector<std::string> cells{line.task, std::to_string(line.few_shot), with_commas(line.questions), line.metric};
        cells.insert(cells.end(), line.cells.begin(), line.cells.end());
        table.add(std::move(cells));
    }
    auto row = [&](const char* what, auto&& value) {
        std::vector<std::string> cells{what, "", "", ""};
        for (const ModelResult& m : models) cells.push_back(value(m));
        table.add(std::move(cells));
    };
    row("weights", [](const ModelResult& m) { return human_bytes(double(m.weight_bytes)); });
    row("peak memory", [](const ModelResult& m) { return human_bytes(double(m.peak_bytes)); });
    row("decode tokens/s", [](const ModelResult& m) { return human_rate(m.speed.decode_rate); });
    row("first token", [](const ModelResult& m) { return fmt::format("{:.1f} ms", 1e3 * m.speed.first_token_seconds); });
    row("time", [](const ModelResult& m) { return human_duration(m.seconds); });
    table.print();
    std::printf("\nprompts and scoring: %s; values ± standard error; first token: behind a prompt of %lld tokens; %s\n",
                harness_version, static_cast<long long>(models[0].speed.prompt), gpu.device.capabilities().name.c_str());
}

}  // namespace

void evaluate_tasks(Gpu& gpu, const TaskEvaluation& e) {
    size_t failed = 0;
    std::vector<Task> tasks;
    for (const std::string& text : e.tasks)
        for (const TaskRequest& request : find_tasks(text)) {
            try {
                for (Task& task : load_tasks(request, e.options)) {
                    if (std::any_of(tasks.begin(), tasks.end(), [&](const Task& t) { return t.name == task.name; }))
                        fail("{}: there are two tasks named {}", task.file.string(), task.name);
                    tasks.push_back(std::move(task));
                }
            } catch (const Error& error) {
                failed++;
                std::fprintf(stderr, "vkqat: %s\n", error.what());
            }
        }
    if (tasks.empty()) fail("there is no task that could be read");
    std::vector<ModelResult> models;
    for (const std::string& path : e.models) {
        models.push_back(evaluate_model(gpu, path, tasks, e));
        for (const TaskResult& result : models.back().tasks) failed += !result.error.empty();
    }
    e.as_json ? print_json(models, gpu) : print_table(models, gpu);
    flush_stdout();
    if (failed) fail("{} of the tasks failed; what is printed leaves them out", failed);
}

}  // namespace vkqat

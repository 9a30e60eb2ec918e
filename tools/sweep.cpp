#include "tools/sweep.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "evaluation/results.h"
#include "evaluation/sweep.h"
#include "runtime/formats/json_text.h"
#include "runtime/formats/llama_config.h"
#include "runtime/support/files.h"
#include "tools/child.h"
#include "tools/command.h"
#include "tools/console.h"
#include "trainer/checkpoint.h"
#include "trainer/run_folder.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr int result_format = 1;

struct Options {
    std::string config, out;
    std::shared_ptr<std::string> device;
};

std::string dump(const ordered_json& value) { return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n"; }

// The last line of a log, for a message.
std::string last_line(const fs::path& log) {
    if (!has_file(log)) return "";
    std::string text = read_text_file(log);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return printable(text.substr(text.rfind('\n') == text.npos ? 0 : text.rfind('\n') + 1), 300);
}

// Sums up a run's metrics.jsonl: the figures of its last step, and all its validation losses.
struct RunMetrics {
    ordered_json last, validation = ordered_json::array();
    double seconds = 0;  // of all parts of a run that was resumed
};
RunMetrics run_metrics(const fs::path& file) {
    RunMetrics m;
    if (!has_file(file)) return m;
    const std::string text = read_text_file(file);
    double before = 0;
    for (size_t at = 0, end = 0; (end = text.find('\n', at)) != text.npos; at = end + 1) {
        json row = parse_json(std::string_view(text).substr(at, end - at), file.string());
        if (row.contains("validation_loss")) m.validation.push_back({{"step", row["step"]}, {"loss", row["validation_loss"]}});
        if (!row.contains("tokens")) continue;
        const double seconds = row.value("seconds", 0.0);
        if (seconds < before) m.seconds += before;
        before = seconds;
        m.last = row;
    }
    m.seconds += before;
    return m;
}

class SweepRun {
public:
    SweepRun(const Sweep& sweep, const Options& o) : sweep_(sweep), options_(o), out_(o.out) {}

    // Names of the models that failed. Error if it was stopped.
    std::vector<std::string> run() {
        fs::create_directories(out_ / "results");
        const FolderLock lock(out_);
        for (const char* folder : {"runs", "models", "work", "cache"}) fs::create_directories(out_ / folder);
        forward_stop_signals();
        std::vector<std::string> failed;
        for (size_t i = 0; i < sweep_.points.size(); i++) {
            const SweepPoint& p = sweep_.points[i];
            prefix_ = fmt::format("{} of {}: {}", i + 1, sweep_.points.size(), p.name);
            try {
                point(p);
            } catch (const Error& e) {
                if (stop_was_requested()) break;
                std::fprintf(stderr, "vkqat: %s: %s\n", p.name.c_str(), e.what());
                failed.push_back(p.name);
            }
            if (stop_was_requested()) break;
        }
        if (stop_was_requested()) fail("stopped; the same command goes on from here");
        return failed;
    }

private:
    fs::path result_file(const SweepPoint& p) const { return out_ / "results" / (p.name + ".json"); }

    void say(const char* what) const { std::fprintf(stderr, "%s: %s\n", prefix_.c_str(), what); }

    void step(const SweepPoint& p, const char* what, std::vector<std::string> arguments, const fs::path& to, bool device = true,
              const std::function<void()>& meanwhile = {}) {
        say(what);
        if (device && !options_.device->empty()) arguments.insert(arguments.end(), {"--device", *options_.device});
        const fs::path log = work(p) / "log.txt", part = fs::path(to).concat(".part");
        const int code = run_child(arguments, part, log, meanwhile);
        if (stop_was_requested()) fail("stopped");
        // eval leaves out task files that it cannot read, says so, and prints the others' results.
        const bool usable = code == 1 && arguments[0] == "eval" && fs::file_size(part) > 0;
        if (code != 0 && !usable) {
            const std::string reason = last_line(log);
            fail("{} failed ({}): {}", what,
                 code > 128 ? fmt::format("signal {}", code - 128) : fmt::format("exit code {}", code),
                 reason.empty() ? "no message" : reason);
        }
        if (usable) std::fprintf(stderr, "%s: %s\n", prefix_.c_str(), last_line(log).c_str());
        fs::rename(part, to);
    }

    fs::path work(const SweepPoint& p) const { return out_ / "work" / p.name; }

    void point(const SweepPoint& p) {
        const std::string evaluation = sweep_.evaluation();
        if (has_file(result_file(p))) {
            const json done = read_json_object(result_file(p), size_t(64) << 20);
            if (done.value("settings", "") != p.settings)
                fail("{} is of a model with other settings; remove it, or choose another name", result_file(p).string());
            if (done.value("evaluation", "") == evaluation) return;
        }
        const fs::path settings = work(p) / "settings.toml", measured = work(p) / "evaluation.txt";
        if (has_file(settings) && read_text_file(settings) != p.settings)
            fail("{} was begun with other settings; remove that folder, {} and {}, or choose another name", work(p).string(),
                 (out_ / "runs" / p.name).string(), (out_ / "models" / p.name).string());
        fs::create_directories(work(p));
        write_text_file(settings, p.settings);
        if (!has_file(measured) || read_text_file(measured) != evaluation) {  // what was measured in another way counts no more
            for (const auto& entry : fs::directory_iterator(work(p)))
                if (entry.path().extension() == ".json") fs::remove(entry.path());
            write_text_file(measured, evaluation);
        }
        const fs::path model = make_model(p);
        measure(p, model);
        write_text_file(result_file(p), dump(result(p, model)));
        fs::remove_all(work(p));
        if (!p.train.empty() && !sweep_.keep_checkpoints) {
            fs::remove_all(out_ / "runs" / p.name / "checkpoint");
            fs::remove(out_ / "runs" / p.name / "cache");
        }
    }

    fs::path make_model(const SweepPoint& p) {
        const fs::path model = out_ / "models" / p.name;
        if (p.train.empty()) {
            if (p.quantize.empty()) return p.model;
            if (fs::exists(model)) return model;
            std::vector<std::string> arguments{"quantize", p.model.string(), model.string()};
            arguments.insert(arguments.end(), p.quantize.begin(), p.quantize.end());
            step(p, "quantizing", arguments, work(p) / "quantize.txt");
            return model;
        }
        if (fs::exists(model)) return model;
        train(p);
        step(p, "writing the model", {"export", (out_ / "runs" / p.name).string(), model.string()}, work(p) / "export.txt",
             false);
        return model;
    }

    // A training whose sweep was killed ends with a checkpoint, soon.
    void wait_for(const fs::path& folder) const {
        for (int i = 0;; i++) try {
                const FolderLock lock(folder);
                return;
            } catch (const Error&) {
                if (i == 300 || stop_was_requested()) throw;
                std::this_thread::sleep_for(std::chrono::milliseconds(200));
            }
    }

    void train(const SweepPoint& p) {
        const fs::path folder = out_ / "runs" / p.name;
        std::vector<std::string> arguments{"train", sweep_.config.string()};
        arguments.insert(arguments.end(), p.train.begin(), p.train.end());
        arguments.push_back("--job.dump_folder=" + folder.string());
        const TrainConfig config = load_train_config(sweep_.config, std::span(arguments).subspan(2));
        const auto say_nothing = [](const std::string&) {};
        auto last_step = [&]() -> int64_t {
            auto latest = latest_checkpoint(config.checkpoint_folder(), say_nothing);
            return latest ? latest->state().step : -1;
        };
        if (fs::exists(folder)) wait_for(folder);
        if (has_file(folder / "config.toml")) {
            const int64_t latest = last_step();
            if (latest >= config.training.steps) return;
            if (latest >= 0)
                arguments.push_back("--resume");
            else
                fs::remove_all(folder);  // it ended before its first checkpoint
        }
        fs::create_directories(folder);
        std::error_code error;
        fs::create_directory_symlink("../../cache", folder / "cache", error);  // all read the same text
        const fs::path metrics = folder / "metrics.jsonl";
        ProgressLine progress;
        step(p, "training", arguments, work(p) / "train.txt", true, [&] {
            if (!is_terminal(stderr) || !has_file(metrics)) return;
            const std::string text = read_text_file(metrics);
            const size_t at = text.rfind("{\"step\":");
            if (at != text.npos)
                progress.show(prefix_, std::strtod(text.c_str() + at + 8, nullptr), double(config.training.steps));
        });
        if (const int64_t done = last_step(); done < config.training.steps)
            fail("training ended at step {} of {}", done, config.training.steps);
    }

    void measure(const SweepPoint& p, const fs::path& model) {
        auto number = [](const char* option, int64_t value, std::vector<std::string>& arguments) {
            if (value > 0) arguments.insert(arguments.end(), {option, std::to_string(value)});
        };
        for (size_t i = 0; i < sweep_.texts.size(); i++) {
            const fs::path to = work(p) / fmt::format("text-{}.json", i);
            if (has_file(to)) continue;
            std::vector<std::string> arguments{"eval", model.string(), "--perplexity", sweep_.texts[i], "--json"};
            number("--context", sweep_.context, arguments);
            number("--stride", sweep_.stride, arguments);
            if (!sweep_.separator.empty()) arguments.insert(arguments.end(), {"--document-separator", sweep_.separator});
            step(p, ("perplexity of " + fs::path(sweep_.texts[i]).filename().string()).c_str(), arguments, to);
        }
        if (const fs::path to = work(p) / "tasks.json"; !sweep_.tasks.empty() && !has_file(to)) {
            std::vector<std::string> arguments{"eval", model.string(), "--json", "--save", (work(p) / "scores").string()};
            number("--limit", sweep_.limit, arguments);
            if (sweep_.few_shot >= 0) arguments.insert(arguments.end(), {"--few-shot", std::to_string(sweep_.few_shot)});
            arguments.push_back("--tasks");
            arguments.insert(arguments.end(), sweep_.tasks.begin(), sweep_.tasks.end());
            step(p, "tasks", arguments, to);
        }
        if (const fs::path to = work(p) / "profile.json"; !has_file(to))
            step(p, "memory and speed", {"profile", model.string(), "--json"}, to);
        if (const fs::path to = work(p) / "sensitivity.json"; !sweep_.sensitivity.empty() && p.bits == 16 && !has_file(to))
            step(p, "sensitivity of its layers",
                 {"profile", "sensitivity", model.string(), "--calibration", sweep_.sensitivity, "--json"}, to);
    }

    ordered_json result(const SweepPoint& p, const fs::path& model) const {
        auto read = [&](const fs::path& file) {
            return ordered_json::parse(parse_json(read_text_file(file, size_t(64) << 20), file.string()).dump());
        };
        const bool made = model != p.model;
        ordered_json out{{"format", "vkqat result"},
                         {"format_version", result_format},
                         {"name", p.name},
                         {"size", p.size},
                         {"method", p.method},
                         {"bits", p.bits},
                         {"model", made ? "models/" + p.name : p.model.string()}};
        const ordered_json profile = read(work(p) / "profile.json");
        for (const char* key :
             {"model_digest", "parameters", "linear_parameters", "weights", "weight_bytes", "linear_bits_per_weight",
              "prompt_tokens", "first_token_seconds", "decode_tokens_per_second", "version", "device", "driver"})
            if (profile.contains(key)) out[key] = profile[key];
        if (!p.train.empty()) {
            const RunMetrics m = run_metrics(out_ / "runs" / p.name / "metrics.jsonl");
            ordered_json training{{"seconds", m.seconds}};
            for (const char* key : {"step", "tokens", "loss", "learning_rate", "tokens_per_second", "skipped_steps"})
                if (m.last.contains(key)) training[key] = m.last[key];
            training["validation"] = m.validation;
            if (training.contains("tokens")) out["training_tokens"] = training["tokens"];
            out["training"] = training;
        }
        out["texts"] = ordered_json::array();
        for (size_t i = 0; i < sweep_.texts.size(); i++) {
            ordered_json text = read(work(p) / fmt::format("text-{}.json", i));
            ordered_json one{{"text", fs::path(sweep_.texts[i]).filename().string()}};
            for (const char* key : {"file", "file_checksum", "mean_nll", "perplexity", "bits_per_byte", "tokens", "windows",
                                    "context", "stride", "seconds", "tokens_per_second"})
                if (text.contains(key)) one[key] = text[key];
            if (i == 0)
                for (const char* key : {"mean_nll", "perplexity", "bits_per_byte"})
                    if (text.contains(key)) out[key] = text[key];
            out["texts"].push_back(one);
        }
        if (has_file(work(p) / "tasks.json")) {
            const ordered_json tasks = read(work(p) / "tasks.json");
            const ordered_json& one = tasks["models"][0];
            out["harness"] = tasks["harness"];
            out["tasks"] = one["tasks"];
            if (one.contains("groups")) out["groups"] = one["groups"];
            if (one.contains("peak_memory_bytes")) out["peak_memory_bytes"] = one["peak_memory_bytes"];
        }
        out["profile"] = profile;
        if (has_file(work(p) / "sensitivity.json")) out["sensitivity"] = read(work(p) / "sensitivity.json");
        out["settings"] = p.settings;
        out["evaluation"] = sweep_.evaluation();
        return out;
    }

    const Sweep& sweep_;
    const Options& options_;
    const fs::path out_;
    std::string prefix_;
};

// All results of a folder, by memory; which of them nothing beats.
void print_results(const fs::path& folder, std::string metric) {
    const std::vector<ResultPoint> all = read_results(folder);
    metric = choose_metric(all, metric);
    std::vector<const ResultPoint*> points;
    for (const ResultPoint& p : all) points.push_back(&p);
    std::stable_sort(points.begin(), points.end(), [](auto* a, auto* b) { return a->bytes < b->bytes; });
    std::vector<double> bytes, slowness, values;
    for (const ResultPoint* p : points) {
        auto found = p->metrics.find(metric);
        values.push_back(found == p->metrics.end() ? NAN : found->second);
        bytes.push_back(p->bytes > 0 ? p->bytes : NAN);
        slowness.push_back(p->decode_rate > 0 ? -p->decode_rate : NAN);
    }
    std::vector<std::string> fronts(points.size());
    for (size_t i : pareto_front(bytes, values, more_is_better(metric))) fronts[i] = "memory";
    for (size_t i : pareto_front(slowness, values, more_is_better(metric))) fronts[i] += fronts[i].empty() ? "speed" : ", speed";
    Table table({"model", "method", ">weights", ">bits/weight", ">parameters", ">" + metric, ">decode tokens/s", "best for"});
    for (size_t i = 0; i < points.size(); i++) {
        const ResultPoint& p = *points[i];
        table.add({p.name, p.group, human_bytes(p.bytes), fmt::format("{:.2f}", p.bits), human_count(p.parameters),
                   std::isnan(values[i])    ? "-"
                   : more_is_better(metric) ? fmt::format("{:.2f} %", 100 * values[i])
                                            : fmt::format("{:.4f}", values[i]),
                   p.decode_rate > 0 ? human_rate(p.decode_rate) : "-", fronts[i]});
    }
    table.print();
    std::printf("\nbest for memory (speed): no other has a better %s with as few bytes of weights (as many tokens/s)\n",
                metric.c_str());
}

}  // namespace

void add_sweep_commands(CLI::App& profile) {
    auto o = std::make_shared<Options>();
    CLI::App* sweep = profile.add_subcommand(
        "sweep", "trains or quantizes models of several sizes, methods and bits, evaluates and measures them");
    sweep->add_option("CONFIG", o->config, "what to do (TOML, docs/evaluation.md)")->required()->type_name("CONFIG");
    sweep->add_option("--out", o->out, "folder of the results; there already: what is missing is done")
        ->required()
        ->type_name("FOLDER");
    o->device = add_device_option(*sweep);
    sweep->callback([o] {
        const Sweep read = read_sweep(o->config);
        const std::vector<std::string> failed = SweepRun(read, *o).run();
        if (!result_files(o->out).empty()) print_results(o->out, "");
        flush_stdout();
        if (!failed.empty())
            fail("{} of {} models failed: {}; what they said is in log.txt of their folders in '{}'", failed.size(),
                 read.points.size(), fmt::join(failed, ", "), (std::filesystem::path(o->out) / "work").string());
    });
    sweep->footer(
        "Ctrl-C stops it; the same command goes on where it was, also after a crash, with the same results.\n\n"
        "Example:\n"
        "  vkqat profile sweep sweep.toml --out sweep; vkqat plot report sweep --out report.html");

    struct Merge {
        std::string out, metric;
        std::vector<std::string> from;
    };
    auto m = std::make_shared<Merge>();
    CLI::App* merge = profile.add_subcommand("merge", "brings the results of sweeps into one folder");
    merge->add_option("OUT", m->out, "folder that gets them; may have some already")->required()->type_name("OUT");
    merge->add_option("FOLDER", m->from, "folders of sweeps")->required()->type_name("FOLDER...");
    merge->callback([m] {
        const size_t copied = merge_results(m->out, {m->from.begin(), m->from.end()});
        std::fprintf(stderr, "%zu results copied to %s\n", copied, m->out.c_str());
        print_results(m->out, "");
    });
    merge->footer("Example:\n  vkqat profile merge all sweep-a sweep-b");

    CLI::App* results = profile.add_subcommand("results", "a table of results, and which of them no other beats");
    auto r = std::make_shared<Merge>();
    results->add_option("FOLDER", r->out, "folder of a sweep, or a file of `vkqat eval --json`")->required()->type_name("FOLDER");
    results->add_option("--metric", r->metric, "such as perplexity, bits_per_byte, \"hellaswag acc_norm\" (the first there is)")
        ->type_name("NAME");
    results->callback([r] { print_results(r->out, r->metric); });
}

}  // namespace vkqat

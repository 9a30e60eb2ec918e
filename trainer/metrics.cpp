#include "trainer/metrics.h"

#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace {

using nlohmann::ordered_json;

// The lines up to `last_step`; the first one that is no complete line of ours ends them.
std::string lines_until(const std::string& text, int64_t last_step) {
    std::string kept;
    for (size_t begin = 0; begin < text.size();) {
        size_t end = text.find('\n', begin);
        if (end == std::string::npos) break;
        std::string line = text.substr(begin, end + 1 - begin);
        auto json = ordered_json::parse(line, nullptr, false);
        auto step = json.is_object() ? json.find("step") : json.end();
        if (!json.is_object() || step == json.end() || !step->is_number_integer()) break;
        if (step->get<int64_t>() <= last_step) kept += line;
        begin = end + 1;
    }
    return kept;
}

const std::filesystem::path& without_lines_behind(const std::filesystem::path& path, int64_t last_step) {
    if (has_file(path)) {
        std::string text = read_text_file(path), kept = lines_until(text, last_step);
        if (kept != text) write_text_file(path, kept);
    }
    return path;
}

std::string line(const ordered_json& json) { return json.dump() + "\n"; }

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, int64_t last_step) : file_(without_lines_behind(path, last_step)) {}

void MetricsFile::add(const StepMetrics& m) {
    ordered_json json{{"step", m.step},
                      {"loss", m.loss},
                      {"learning_rate", m.learning_rate},
                      {"gradient_norm", m.gradient_norm},
                      {"quantized", m.quantized},
                      {"tokens", m.tokens},
                      {"epoch", m.epoch}};
    if (m.epochs.size() > 1) json["epochs"] = m.epochs;
    json.update({{"skipped_steps", m.skipped_steps},
                 {"tokens_per_second", m.tokens_per_second},
                 {"flops_per_second", m.flops_per_second},
                 {"memory_bytes", m.memory_bytes},
                 {"seconds", m.seconds}});
    file_.write(line(json));
}

void MetricsFile::add_validation(int64_t step, double loss, int64_t tokens) {
    file_.write(line({{"step", step}, {"validation_loss", loss}, {"validation_tokens", tokens}}));
}

void MetricsFile::add_skip(int64_t step, double loss, double gradient_norm) {
    file_.write(line({{"step", step}, {"skipped", true}, {"loss", loss}, {"gradient_norm", gradient_norm}}));
}

void MetricsFile::add_outlier(int64_t step, const std::string& of, const Outlier& o) {
    file_.write(line({{"step", step}, {"outlier", of}, {"value", o.value}, {"median", o.median}, {"deviations", o.deviations}}));
}

}  // namespace vkqat

#include "trainer/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
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

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, int64_t last_step) : path_(path) {
    if (has_file(path)) {
        std::string text = read_text_file(path), kept = lines_until(text, last_step);
        if (kept != text) write_text_file(path, kept);
    }
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd_ < 0) fail("{}: cannot open the file: {}", path.string(), std::strerror(errno));
}

MetricsFile::~MetricsFile() {
    if (fd_ < 0) return;
    flush();
    ::close(fd_);
}

// False, with errno, if something is left.
bool MetricsFile::flush() {
    while (!pending_.empty()) {
        ssize_t n = ::write(fd_, pending_.data(), pending_.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        pending_.erase(0, size_t(n));
    }
    return true;
}

void MetricsFile::write(const std::string& line) {
    std::lock_guard lock(mutex_);
    pending_ += line + '\n';
    if (flush()) return;
    const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
    if (!full) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
}

void MetricsFile::sync() {
    std::lock_guard lock(mutex_);
    if (!flush() || ::fsync(fd_) != 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
}

void MetricsFile::add(const StepMetrics& m) {
    write(ordered_json{{"step", m.step},
                       {"loss", m.loss},
                       {"learning_rate", m.learning_rate},
                       {"gradient_norm", m.gradient_norm},
                       {"quantized", m.quantized},
                       {"tokens", m.tokens},
                       {"epoch", m.epoch},
                       {"skipped_steps", m.skipped_steps},
                       {"tokens_per_second", m.tokens_per_second},
                       {"flops_per_second", m.flops_per_second},
                       {"memory_bytes", m.memory_bytes},
                       {"seconds", m.seconds}}
              .dump());
}

void MetricsFile::add_validation(int64_t step, double loss, int64_t tokens) {
    write(ordered_json{{"step", step}, {"validation_loss", loss}, {"validation_tokens", tokens}}.dump());
}

void MetricsFile::add_skip(int64_t step, double loss, double gradient_norm) {
    write(ordered_json{{"step", step}, {"skipped", true}, {"loss", loss}, {"gradient_norm", gradient_norm}}.dump());
}

}  // namespace vkqat

#include "app/core/runs.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/support/error.h"
#include "runtime/support/files.h"

extern char** environ;

namespace vkqat {
namespace fs = std::filesystem;
namespace {

constexpr size_t at_once = size_t(256) << 10;  // bytes of a file that one update reads: some milliseconds

void put(std::vector<CurvePoint>& curve, double step, const nlohmann::json& line, const char* key) {
    const auto found = line.find(key);
    if (found == line.end() || !found->is_number()) return;
    // A run that was resumed says its steps again.
    while (!curve.empty() && curve.back().step >= step) curve.pop_back();
    curve.push_back({step, found->get<double>()});
}

void search_in(const fs::path& folder, int depth, std::vector<fs::path>& found) {
    std::error_code error;
    if (fs::exists(folder / "metrics.jsonl", error)) found.push_back(folder);
    if (depth == 0) return;
    std::vector<fs::path> inside;
    for (fs::directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end; !error && at != end;
         at.increment(error))
        if (at->is_directory(error) && !at->path().filename().string().starts_with(".")) inside.push_back(at->path());
    std::sort(inside.begin(), inside.end());
    for (const fs::path& path : inside) search_in(path, depth - 1, found);
}

// The text behind `key =` in a section: enough of TOML for one figure or one path.
std::string value_in(const fs::path& config, std::string_view section, std::string_view key) {
    std::error_code error;
    if (!fs::is_regular_file(config, error)) return "";
    std::ifstream file(config);
    std::string line, at;
    while (std::getline(file, line)) {
        if (line.starts_with("[")) at = line.substr(0, line.find(']') + 1);
        const size_t equals = line.find('=');
        if (at != section || !line.starts_with(key) || equals == line.npos) continue;
        if (line.substr(key.size(), equals - key.size()).find_first_not_of(" \t") != line.npos) continue;  // a longer key
        const size_t begin = line.find_first_not_of(" \t", equals + 1);
        if (begin == line.npos) return "";
        const char quote = line[begin];
        if (quote != '"' && quote != '\'') return line.substr(begin, line.find_first_of(" \t#", begin) - begin);
        const size_t end = line.find(quote, begin + 1);
        return end == line.npos ? "" : line.substr(begin + 1, end - begin - 1);
    }
    return "";
}

}  // namespace

const char* curve_name(Curve curve) {
    constexpr const char* names[] = {"Loss", "Validation loss", "Learning rate", "Gradient norm", "Tokens/s", "Memory"};
    return names[size_t(curve)];
}

std::vector<fs::path> find_runs(const fs::path& folder) {
    std::vector<fs::path> found;
    search_in(folder, 2, found);
    return found;
}

Run open_run(const fs::path& folder) {
    Run run;
    run.folder = folder;
    run.name = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
    run.steps = std::strtoll(value_in(folder / "config.toml", "[training]", "steps").c_str(), nullptr, 10);
    return run;
}

bool update_run(Run& run) {
    const fs::path path = run.folder / "metrics.jsonl";
    std::error_code error;
    const uint64_t size = fs::file_size(path, error);
    if (error) {
        run.error = path.string() + ": " + error.message();
        return false;
    }
    if (size < run.read_) {  // begun again
        run.read_ = 0;
        for (auto& curve : run.curves) curve.clear();
    }
    if (size == run.read_) return false;
    std::ifstream file(path, std::ios::binary);
    file.seekg(std::streamoff(run.read_));
    std::string text(std::min<uint64_t>(size - run.read_, at_once), '\0');
    file.read(text.data(), std::streamsize(text.size()));
    text.resize(size_t(std::max<std::streamsize>(0, file.gcount())));
    size_t end = text.rfind('\n');
    if (end == text.npos) {
        if (text.size() < at_once) return false;  // a line that is being written
        end = text.size() - 1;                    // no line is as long: damage
    }
    run.error.clear();
    for (size_t begin = 0; begin <= end;) {
        const size_t stop = std::min(text.find('\n', begin), end);
        const auto line = nlohmann::json::parse(text.begin() + ptrdiff_t(begin), text.begin() + ptrdiff_t(stop), nullptr, false);
        const bool empty = stop == begin;
        begin = stop + 1;
        if (!line.is_object() || !line.contains("step") || !line["step"].is_number()) {
            if (!empty) run.error = path.string() + ": a line is no object with a step";
            continue;
        }
        const double step = line["step"].get<double>();
        auto curve = [&](Curve c) -> std::vector<CurvePoint>& { return run.curves[size_t(c)]; };
        if (line.contains("validation_loss")) {
            put(curve(Curve::validation), step, line, "validation_loss");
        } else if (line.value("skipped", false)) {
            run.skipped++;
        } else if (line.contains("learning_rate")) {
            put(curve(Curve::loss), step, line, "loss");
            put(curve(Curve::learning_rate), step, line, "learning_rate");
            put(curve(Curve::gradient_norm), step, line, "gradient_norm");
            put(curve(Curve::tokens_per_second), step, line, "tokens_per_second");
            put(curve(Curve::memory), step, line, "memory_bytes");
            run.step = int64_t(step);
            if (line.contains("tokens") && line["tokens"].is_number()) run.tokens = line["tokens"].get<int64_t>();
            if (line.contains("seconds") && line["seconds"].is_number()) run.seconds = line["seconds"].get<double>();
            if (line.contains("skipped_steps") && line["skipped_steps"].is_number())
                run.skipped = line["skipped_steps"].get<int64_t>();
        }
    }
    run.read_ += end + 1;
    const auto written = fs::last_write_time(path, error);
    if (!error)
        run.changed =
            std::chrono::duration_cast<std::chrono::seconds>(std::chrono::file_clock::to_sys(written).time_since_epoch()).count();
    return true;
}

std::vector<CurvePoint> smoothed(const std::vector<CurvePoint>& points, double weight) {
    std::vector<CurvePoint> result;
    result.reserve(points.size());
    double sum = 0, total = 0;
    for (const CurvePoint& p : points) {
        if (!std::isfinite(p.value)) continue;
        sum = weight * sum + (1 - weight) * p.value;
        total = weight * total + (1 - weight);
        result.push_back({p.step, sum / total});
    }
    return result;
}

std::vector<CurvePoint> thinned(const std::vector<CurvePoint>& points, size_t count) {
    if (points.size() <= count || count < 4) return points;
    std::vector<CurvePoint> result;
    const size_t stretches = count / 2;
    for (size_t s = 0; s < stretches; s++) {
        const size_t begin = s * points.size() / stretches, end = (s + 1) * points.size() / stretches;
        const auto by_value = [](const CurvePoint& a, const CurvePoint& b) { return a.value < b.value; };
        auto [low, high] = std::minmax_element(points.begin() + ptrdiff_t(begin), points.begin() + ptrdiff_t(end), by_value);
        if (high < low) std::swap(low, high);
        result.push_back(*low);
        if (high != low) result.push_back(*high);
    }
    return result;
}

void TrainProcess::start(const fs::path& program, const fs::path& new_config, const std::vector<std::string>& arguments,
                         const fs::path& new_log) {
    if (running()) fail("a training runs already");
    config = new_config;
    log = new_log;
    std::error_code error;
    fs::create_directories(log.parent_path(), error);
    std::vector<std::string> words{program.string(), "train", config.filename().string()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
    const fs::path place = fs::absolute(config).parent_path();
    ::posix_spawn_file_actions_addchdir_np(&actions, place.c_str());
    // A session of its own: a Ctrl-C in the terminal of this program is not for it.
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    // This program has signals blocked that end a training.
    sigset_t none;
    sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    const int result = ::posix_spawnp(&pid_, program.c_str(), &actions, &attributes, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (result != 0) {
        pid_ = -1;
        fail("{} cannot be started: {}", program.string(), std::strerror(result));
    }
}

void TrainProcess::stop() {
    if (running()) ::kill(pid_, SIGINT);
}

bool TrainProcess::running() {
    if (pid_ < 0) return false;
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == 0) return true;
    exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? -WTERMSIG(status) : 0;
    pid_ = -1;
    return false;
}

fs::path dump_folder(const fs::path& config, const std::vector<std::string>& arguments) {
    constexpr std::string_view option = "--job.dump_folder=";
    std::string folder = value_in(config, "[job]", "dump_folder");
    for (const std::string& argument : arguments)
        if (argument.starts_with(option)) folder = argument.substr(option.size());
    return folder.empty() ? fs::path() : (fs::absolute(config).parent_path() / folder).lexically_normal();
}

fs::path vkqat_program() {
    std::error_code error;
    const fs::path self = fs::read_symlink("/proc/self/exe", error);
    if (!error && fs::exists(self.parent_path() / "vkqat", error)) return self.parent_path() / "vkqat";
    return "vkqat";
}

}  // namespace vkqat

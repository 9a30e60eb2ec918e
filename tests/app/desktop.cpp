#include "tests/app/desktop.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "app/core/png.h"

namespace vkqat {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

bool in_path(const char* program) {
    std::istringstream path(std::getenv("PATH") ? std::getenv("PATH") : "");
    for (std::string folder; std::getline(path, folder, ':');)
        if (::access((folder + "/" + program).c_str(), X_OK) == 0) return true;
    return false;
}

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string text_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

bool have_desktop_tools() {
#ifdef VKQAT_APP_PROGRAM
    return in_path("Xvfb") && in_path("xdotool");
#else
    return false;
#endif
}

pid_t Desktop::spawn(const std::vector<std::string>& words, int keep_fd) const {
    const pid_t child = ::fork();
    if (child != 0) return child;
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    if (!display_.empty()) ::setenv("DISPLAY", display_.c_str(), 1);
    ::unsetenv("WAYLAND_DISPLAY");
    ::unsetenv("DBUS_SESSION_BUS_ADDRESS");
    ::setenv("XDG_CONFIG_HOME", (folder / "config").c_str(), 1);
    ::setenv("XDG_DATA_HOME", (folder / "data").c_str(), 1);
    ::setenv("HOME", folder.c_str(), 1);
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
    // Outputs into a file of the test's folder; the display's own pipe stays open.
    const int log =
        ::open((folder / (fs::path(words[0]).filename().string() + ".log")).c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(log, 1);
    ::dup2(log, 2);
    if (keep_fd < 0) ::close(3);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
}

Desktop::Desktop(int width, int height) {
    std::string name = (fs::temp_directory_path() / "vkqat-desktop-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    folder = name;
    int fds[2];
    if (::pipe(fds) != 0) throw std::runtime_error("no pipe");
    display_process_ =
        spawn({"Xvfb", "-displayfd", std::to_string(fds[1]), "-screen", "0",
               std::to_string(width) + "x" + std::to_string(height) + "x24", "-fbdir", folder.string(), "-nolisten", "tcp"},
              fds[1]);
    ::close(fds[1]);
    std::string number;
    char c;
    while (::read(fds[0], &c, 1) == 1 && c != '\n') number += c;
    ::close(fds[0]);
    if (number.empty()) throw std::runtime_error("Xvfb did not start: " + text_of(folder / "Xvfb.log"));
    display_ = ":" + number;
}

Desktop::~Desktop() {
    if (program_ > 0) end(SIGKILL);
    ::kill(display_process_, SIGTERM);
    ::waitpid(display_process_, nullptr, 0);
    std::error_code error;
    if (!testing::Test::HasFailure()) fs::remove_all(folder, error);
}

void Desktop::start(const std::vector<std::string>& arguments) {
#ifdef VKQAT_APP_PROGRAM
    std::error_code error;
    fs::remove(folder / "screen.json", error);
    std::vector<std::string> words{VKQAT_LAUNCHER, VKQAT_APP_PROGRAM, "--size",
                                   size,           "--dump-widgets",  (folder / "screen.json").string()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    program_ = spawn(words);
    const double until = now() + 60;
    while (screen().is_null() && now() < until && running()) sleep_ms(50);
    if (screen().is_null()) throw std::runtime_error("vkqat-app did not start: " + text_of(folder / "cpu-vulkan.log"));
    for (int i = 0; i < 100 && xdotool({"search", "--onlyvisible", "--class", "vkqat-app", "windowfocus"}) != 0; i++)
        sleep_ms(100);
    sleep_ms(300);
#else
    (void)arguments;
#endif
}

void Desktop::set_vulkan_fault(const std::string& fault) {
#ifdef VKQAT_FAULTS
    for (const char* name : {"VKQAT_FAULT", "VK_LAYER_PATH", "VK_INSTANCE_LAYERS", "VKQAT_VALIDATION"}) environment.erase(name);
    if (!fault.empty())
        environment = {{"VKQAT_FAULT", fault},
                       {"VK_LAYER_PATH", VKQAT_FAULTS},
                       {"VK_INSTANCE_LAYERS", "VK_LAYER_VKQAT_fault"},
                       {"VKQAT_VALIDATION", "0"}};
#else
    (void)fault;
#endif
}

void Desktop::screenshot(const std::string& name) const {
    const char* to = std::getenv("VKQAT_SCREENSHOTS");
    if (!to) return;
    sleep_ms(700);
    // The display's memory: an X window dump, whose header is 32-bit numbers with the highest byte first.
    const std::string dump = text_of(folder / "Xvfb_screen0");
    auto number = [&](size_t at) {
        uint32_t value = 0;
        for (size_t i = 0; i < 4; i++) value = value << 8 | uint8_t(dump.at(4 * at + i));
        return value;
    };
    const size_t first = number(0) + 12 * size_t(number(19)), row = number(12);
    uint32_t width = 0, height = 0;
    if (std::sscanf(size.c_str(), "%ux%u", &width, &height) != 2) return;
    std::vector<uint8_t> rgb;
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            for (size_t c = 0; c < 3; c++) rgb.push_back(uint8_t(dump.at(first + y * row + 4 * x + 2 - c)));
    fs::create_directories(to);
    write_png(fs::path(to) / (name + ".png"), width, height, rgb);
}

bool Desktop::running() {
    if (program_ <= 0) return false;
    if (::waitpid(program_, nullptr, WNOHANG) == 0) return true;
    program_ = -1;
    return false;
}

int Desktop::end(int signal) {
    if (program_ <= 0) return 0;
    ::kill(program_, signal);
    int status = 0;
    const double until = now() + 30;
    while (::waitpid(program_, &status, WNOHANG) == 0) {
        if (now() > until) ::kill(program_, SIGKILL);
        sleep_ms(20);
    }
    program_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

json Desktop::screen() const {
    return json::parse(text_of(folder / "screen.json"), nullptr, false).is_discarded()
               ? json()
               : json::parse(text_of(folder / "screen.json"), nullptr, false);
}

testing::AssertionResult Desktop::wait(const std::function<bool(const json&)>& holds, double seconds) const {
    const double until = now() + seconds;
    json seen;
    do {
        seen = screen();
        if (!seen.is_null() && !seen.is_discarded() && holds(seen)) return testing::AssertionSuccess();
        siginfo_t ended{};
        if (program_ > 0 && ::waitid(P_PID, id_t(program_), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == program_)
            return testing::AssertionFailure()
                   << "the program has ended: " << (ended.si_code == CLD_EXITED ? "status " : "signal ") << ended.si_status
                   << "\n"
                   << text_of(folder / "cpu-vulkan.log");
        sleep_ms(50);
    } while (now() < until);
    std::string notes;
    if (seen.is_object())
        for (const json& note : seen["notes"])
            notes += note["role"].get<std::string>() + ": " + note["text"].get<std::string>().substr(0, 200) + "\n";
    return testing::AssertionFailure() << "not within " << seconds << " s; on the screen are:\n"
                                       << notes << text_of(folder / "cpu-vulkan.log");
}

testing::AssertionResult Desktop::wait_for_text(const std::string& part, double seconds) const {
    auto result = wait([&](const json& s) { return has_text(s, part); }, seconds);
    return result ? result : result << "\nwanted: " << part;
}

testing::AssertionResult Desktop::click(const std::string& label, double seconds) {
    json found;
    auto there = wait(
        [&](const json& s) {
            for (const json& w : s["widgets"])
                if (w["label"] == label && w.value("enabled", true)) return found = w, true;
            return false;
        },
        seconds);
    if (!there) return there << "\nwanted the widget: " << label;
    const int x = int(found["x"].get<double>() + found["width"].get<double>() / 2),
              y = int(found["y"].get<double>() + found["height"].get<double>() / 2);
    xdotool({"mousemove", std::to_string(x), std::to_string(y)});
    sleep_ms(150);
    xdotool({"click", "1"});
    sleep_ms(250);
    return testing::AssertionSuccess();
}

int Desktop::xdotool(const std::vector<std::string>& arguments) const {
    std::vector<std::string> words{"xdotool"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    int status = 0;
    ::waitpid(spawn(words), &status, 0);
    return status;
}

json Desktop::widget(const std::string& label) const {
    const json s = screen();
    if (s.is_object())
        for (const json& w : s["widgets"])
            if (w["label"] == label) return w;
    return {};
}

void Desktop::resize(int width, int height) {
    xdotool({"search", "--onlyvisible", "--class", "vkqat-app", "windowsize", std::to_string(width), std::to_string(height)});
    size = std::to_string(width) + "x" + std::to_string(height);
    sleep_ms(600);
}

void Desktop::drag(int from_x, int from_y, int to_x, int to_y) {
    xdotool({"mousemove", std::to_string(from_x), std::to_string(from_y)});
    sleep_ms(200);
    xdotool({"mousedown", "1"});
    sleep_ms(200);
    xdotool({"mousemove", std::to_string((from_x + to_x) / 2), std::to_string((from_y + to_y) / 2)});
    sleep_ms(200);
    xdotool({"mousemove", std::to_string(to_x), std::to_string(to_y)});
    sleep_ms(300);
    xdotool({"mouseup", "1"});
    sleep_ms(200);
}

int Desktop::drop(const std::vector<fs::path>& files) {
    int status = -1;
#ifdef VKQAT_FAULTS
    std::vector<std::string> words{std::string(VKQAT_FAULTS) + "/drop_files", "640", "400"};
    for (const fs::path& file : files) words.push_back(file.string());
    ::waitpid(spawn(words), &status, 0);
#endif
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void Desktop::key(const std::string& keys) {
    xdotool({"key", "--clearmodifiers", keys});
    sleep_ms(200);
}

void Desktop::type(const std::string& text) {
    xdotool({"type", "--delay", "15", "--", text});
    sleep_ms(200);
}

std::vector<json> Desktop::saved() const {
    std::vector<json> all;
    std::error_code error;
    std::vector<fs::path> files;
    for (fs::directory_iterator at(conversations(), error), end; !error && at != end; at.increment(error))
        if (at->path().extension() == ".json") files.push_back(at->path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
        json j = json::parse(text_of(file), nullptr, false);
        if (j.is_object()) all.push_back(std::move(j));
    }
    return all;
}

testing::AssertionResult Desktop::wait_for_saved(const std::function<bool(const std::vector<json>&)>& holds,
                                                 double seconds) const {
    const double until = now() + seconds;
    std::vector<json> all;
    do {
        all = saved();
        if (holds(all)) return testing::AssertionSuccess();
        sleep_ms(50);
    } while (now() < until);
    return testing::AssertionFailure() << "not within " << seconds << " s; on disk is: " << json(all).dump(1).substr(0, 4000);
}

bool has_text(const json& screen, const std::string& part) {
    for (const json& note : screen["notes"])
        if (note["text"].get<std::string>().find(part) != std::string::npos) return true;
    return false;
}

bool has_widget(const json& screen, const std::string& label) {
    for (const json& w : screen["widgets"])
        if (w["label"] == label) return true;
    return false;
}

}  // namespace vkqat

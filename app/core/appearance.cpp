#include "app/core/appearance.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/support/error.h"

extern char** environ;

namespace vkqat {
namespace {

std::string output_of(const char* command) {
    std::string text;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command, "re"), ::pclose);
    std::array<char, 256> buffer;
    while (pipe && text.size() < 4096 && std::fgets(buffer.data(), int(buffer.size()), pipe.get())) text += buffer.data();
    return text;
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

// A program whose output is read until it is ended.
class Listener {
public:
    explicit Listener(std::vector<const char*> words) {
        int fds[2];
        if (::pipe2(fds, O_CLOEXEC) != 0) return;
        words.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        ::posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
        ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        posix_spawnattr_t attributes;
        ::posix_spawnattr_init(&attributes);
        sigset_t none;
        sigemptyset(&none);
        ::posix_spawnattr_setsigmask(&attributes, &none);
        ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        if (::posix_spawnp(&pid_, words[0], &actions, &attributes, const_cast<char**>(words.data()), environ) != 0) pid_ = -1;
        ::posix_spawn_file_actions_destroy(&actions);
        ::posix_spawnattr_destroy(&attributes);
        ::close(fds[1]);
        fd_ = fds[0];
    }
    ~Listener() {
        if (pid_ > 0) {
            ::kill(pid_, SIGTERM);
            ::waitpid(pid_, nullptr, 0);
        }
        if (fd_ >= 0) ::close(fd_);
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    int fd() const { return fd_; }
    // What it has said; nothing when it has ended.
    std::string read() {
        std::array<char, 4096> buffer;
        const ssize_t size = ::read(fd_, buffer.data(), buffer.size());
        if (size > 0) return {buffer.data(), size_t(size)};
        ::close(fd_);
        fd_ = -1;
        return "";
    }

private:
    pid_t pid_ = -1;
    int fd_ = -1;
};

}  // namespace

bool system_prefers_dark() {
    if (const char* theme = std::getenv("GTK_THEME")) return has(theme, "dark");
    if (!std::getenv("DBUS_SESSION_BUS_ADDRESS")) return true;
    const std::string portal = output_of(
        "timeout 2 gdbus call --session --dest org.freedesktop.portal.Desktop --object-path /org/freedesktop/portal/desktop "
        "--method org.freedesktop.portal.Settings.Read org.freedesktop.appearance color-scheme 2>/dev/null");
    if (has(portal, "uint32 1")) return true;
    if (has(portal, "uint32 2")) return false;
    const std::string gnome = output_of("timeout 2 gsettings get org.gnome.desktop.interface color-scheme 2>/dev/null");
    if (has(gnome, "dark")) return true;
    const std::string gtk = output_of("timeout 2 gsettings get org.gnome.desktop.interface gtk-theme 2>/dev/null");
    if (!gtk.empty()) return has(gtk, "dark") || has(gtk, "Dark");
    return portal.empty() && gnome.empty();
}

AppearanceWatch::AppearanceWatch(std::function<void(bool)> changed) : changed_(std::move(changed)) {
    if (::pipe2(stop_, O_CLOEXEC) != 0) fail("no pipe can be made");
    thread_ = std::thread([this] { run(); });
}

AppearanceWatch::~AppearanceWatch() {
    ::close(stop_[1]);
    thread_.join();
    ::close(stop_[0]);
}

void AppearanceWatch::run() {
    bool dark = system_prefers_dark();
    changed_(dark);
    if (!std::getenv("DBUS_SESSION_BUS_ADDRESS") || std::getenv("GTK_THEME")) return;
    Listener portal({"gdbus", "monitor", "--session", "--dest", "org.freedesktop.portal.Desktop", "--object-path",
                     "/org/freedesktop/portal/desktop"}),
        gnome({"gsettings", "monitor", "org.gnome.desktop.interface"});
    while (true) {
        std::array<pollfd, 3> events{{{stop_[0], POLLIN, 0}, {portal.fd(), POLLIN, 0}, {gnome.fd(), POLLIN, 0}}};
        if (::poll(events.data(), events.size(), -1) < 0 && errno != EINTR) return;
        if (events[0].revents) return;
        std::string said;
        if (events[1].revents) said += portal.read();
        if (events[2].revents) said += gnome.read();
        if (!has(said, "color-scheme") && !has(said, "gtk-theme")) continue;
        if (const bool now = system_prefers_dark(); now != dark) changed_(dark = now);
    }
}

}  // namespace vkqat

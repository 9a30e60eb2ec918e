#include "tools/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

// A signal handler can reach nothing but a static.
volatile sig_atomic_t stop_requested = 0;

void request_stop(int) { stop_requested = 1; }

struct Descriptor {
    int fd;
    Descriptor(const std::filesystem::path& path, int flags) : fd(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
        if (fd < 0) fail("{}: {}", path.string(), std::strerror(errno));
    }
    ~Descriptor() { ::close(fd); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
};

}  // namespace

void forward_stop_signals() {
    struct sigaction action {};
    action.sa_handler = request_stop;
    for (int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &action, nullptr);
}

bool stop_was_requested() { return stop_requested != 0; }

int run_child(const std::vector<std::string>& arguments, const std::filesystem::path& out, const std::filesystem::path& log,
              const std::function<void()>& meanwhile) {
    const Descriptor in("/dev/null", O_RDONLY), to(out, O_WRONLY | O_CREAT | O_TRUNC), errors(log, O_WRONLY | O_CREAT | O_APPEND);
    std::vector<std::string> words{"vkqat"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    std::fflush(nullptr);  // else both would write what is held back
    const pid_t parent = ::getpid(), child = ::fork();
    if (child < 0) fail("a process cannot be started: {}", std::strerror(errno));
    if (child == 0) {
        ::setpgid(0, 0);  // Ctrl-C reaches this program, which hands it on
        ::prctl(PR_SET_PDEATHSIG, SIGTERM);
        for (int signal : {SIGINT, SIGTERM}) ::signal(signal, SIG_DFL);
        if (::getppid() != parent) ::_exit(1);
        ::dup2(in.fd, STDIN_FILENO);
        ::dup2(to.fd, STDOUT_FILENO);
        ::dup2(errors.fd, STDERR_FILENO);
        ::close_range(3, ~0u, 0);  // locks are the parent's
        const int code = run_program(int(words.size()), pointers.data());
        std::fflush(nullptr);
        ::_exit(code);
    }
    int status = 0;
    for (bool asked = false;;) {
        const pid_t ended = ::waitpid(child, &status, WNOHANG);
        if (ended == child) break;
        if (ended < 0 && errno != EINTR) fail("a process was lost: {}", std::strerror(errno));
        if (stop_requested && !asked) {
            ::kill(child, SIGTERM);
            asked = true;
        }
        if (meanwhile) meanwhile();
        ::usleep(100'000);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace vkqat

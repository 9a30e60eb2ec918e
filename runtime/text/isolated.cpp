#include "runtime/text/isolated.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <mutex>
#include <utility>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

void limit(int resource, rlim_t value) {
    const rlimit both{value, value};
    ::setrlimit(decltype(RLIMIT_CPU)(resource), &both);
}

size_t address_space() {
    std::ifstream file("/proc/self/statm");
    size_t pages = 0;
    file >> pages;
    return pages * size_t(::sysconf(_SC_PAGESIZE));
}

// The child: the result goes into the pipe behind a letter, '+' for a result and '-' for an error.
[[noreturn]] void child(int pipe, const std::function<std::string()>& work, const IsolationLimits& limits, size_t memory) {
    std::signal(SIGINT, SIG_IGN);  // Ctrl-C is the parent's
    if (const int null = ::open("/dev/null", O_WRONLY); null >= 0) ::dup2(null, STDERR_FILENO);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, rlim_t(limits.seconds + 1));
#if !defined(__SANITIZE_ADDRESS__)
    if (memory > 0) limit(RLIMIT_AS, memory);
#else
    (void)memory;
#endif
    std::string answer;
    try {
        answer = "+" + work();
    } catch (const std::bad_alloc&) {
        answer = "-it needs too much memory";
    } catch (const std::exception& e) {
        answer = std::string("-") + e.what();
    }
    for (size_t done = 0; done < answer.size();) {
        const ssize_t n = ::write(pipe, answer.data() + done, answer.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += size_t(n);
    }
    ::_exit(0);
}

}  // namespace

std::string run_isolated(std::string_view what, const std::function<std::string()>& work, const IsolationLimits& limits) {
    // No child may hold the writing end of another thread's pipe, whose end would then not be seen.
    static std::mutex mutex;
    std::unique_lock lock(mutex);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("{}: cannot make a pipe: {}", what, std::strerror(errno));
    const size_t before = address_space();
    const pid_t pid = ::fork();
    if (pid < 0) {
        const int error = errno;
        ::close(ends[0]);
        ::close(ends[1]);
        fail("{}: cannot start a process: {}", what, std::strerror(error));
    }
    if (pid == 0) {
        ::close(ends[0]);
        child(ends[1], work, limits, before > 0 ? before + limits.memory_bytes : 0);
    }
    ::close(ends[1]);
    lock.unlock();

    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(limits.seconds);
    std::string answer;
    std::string problem;
    while (problem.empty()) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
        pollfd ready{ends[0], POLLIN, 0};
        const int n = left > 0 ? ::poll(&ready, 1, int(left)) : 0;
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            problem = fmt::format("it took more than {} seconds", limits.seconds);
            break;
        }
        char buffer[65536];
        const ssize_t bytes = ::read(ends[0], buffer, sizeof buffer);
        if (bytes < 0 && errno == EINTR) continue;
        if (bytes <= 0) break;
        answer.append(buffer, size_t(bytes));
        if (answer.size() > limits.result_bytes) problem = fmt::format("its result has more than {} bytes", limits.result_bytes);
    }
    ::close(ends[0]);
    if (!problem.empty()) ::kill(pid, SIGKILL);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (problem.empty() && answer.empty()) problem = "it crashed: too deeply nested, or too much memory";
    if (!problem.empty()) fail("{}: {}", what, problem);
    if (answer[0] == '-') fail("{}: {}", what, std::string_view(answer).substr(1));
    return answer.substr(1);
}

}  // namespace vkqat

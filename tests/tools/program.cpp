#include "tests/tools/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "runtime/support/error.h"

namespace vkqat::test {
namespace {

// An unnamed temporary file.
using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
File temporary_file(const std::string& content = "") {
    File file(std::tmpfile(), &std::fclose);
    if (!file) fail("cannot make a temporary file");
    std::fwrite(content.data(), 1, content.size(), file.get());
    std::rewind(file.get());
    return file;
}

// All of it, while a child may be writing: it shares the place of the file, which stays.
std::string content(std::FILE* file) {
    std::string text;
    char buffer[4096];
    while (true) {
        ssize_t n = ::pread(::fileno(file), buffer, sizeof buffer, off_t(text.size()));
        if (n <= 0) return text;
        text.append(buffer, size_t(n));
    }
}

std::string environment(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value && *value ? value : otherwise;
}

struct Child {
    File in, out, err;
    pid_t pid = -1;
};

Child start(const std::vector<std::string>& arguments, const std::string& input) {
    std::vector<std::string> command{environment("VKQAT_PROGRAM", VKQAT_PROGRAM)};
    if (environment("VKQAT_NATIVE_VULKAN", "") != "1") command.insert(command.begin(), VKQAT_LAUNCHER);
    command.insert(command.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (std::string& part : command) pointers.push_back(part.data());
    pointers.push_back(nullptr);

    Child child{temporary_file(input), temporary_file(), temporary_file()};
    child.pid = ::fork();
    if (child.pid < 0) fail("cannot start a process");
    if (child.pid == 0) {
        ::dup2(::fileno(child.in.get()), STDIN_FILENO);
        ::dup2(::fileno(child.out.get()), STDOUT_FILENO);
        ::dup2(::fileno(child.err.get()), STDERR_FILENO);
        ::alarm(300);
        ::execv(pointers[0], pointers.data());
        ::_exit(127);
    }
    return child;
}

ProgramResult wait_for(const Child& child) {
    int status = 0;
    while (::waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
    }
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, content(child.out.get()), content(child.err.get())};
}

std::vector<std::string> with_device(std::vector<std::string> arguments) {
    if (std::string device = environment("VKQAT_DEVICE", ""); !device.empty()) {
        arguments.push_back("--device");
        arguments.push_back(device);
    }
    return arguments;
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& arguments, const std::string& input) {
    return wait_for(start(arguments, input));
}

ProgramResult run_on_device(std::vector<std::string> arguments, const std::string& input) {
    return run_program(with_device(std::move(arguments)), input);
}

struct RunningProgram::State {
    Child child;
};

RunningProgram::RunningProgram(std::vector<std::string> arguments)
    : state_(new State{start(with_device(std::move(arguments)), "")}) {}

RunningProgram::~RunningProgram() {
    if (state_->child.pid < 0) return;
    kill(SIGKILL);
    wait();
}

std::string RunningProgram::out() const { return content(state_->child.out.get()); }
std::string RunningProgram::err() const { return content(state_->child.err.get()); }
void RunningProgram::kill(int signal) { ::kill(state_->child.pid, signal); }
ProgramResult RunningProgram::wait() {
    ProgramResult result = wait_for(state_->child);
    state_->child.pid = -1;
    return result;
}

}  // namespace vkqat::test

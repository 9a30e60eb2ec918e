#include "tests/tools/program.h"

#include <fcntl.h>
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

std::string content(std::FILE* file) {
    std::string text;
    std::rewind(file);
    char buffer[4096];
    while (size_t n = std::fread(buffer, 1, sizeof buffer, file)) text.append(buffer, n);
    return text;
}

std::string environment(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value && *value ? value : otherwise;
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& arguments, const std::string& input) {
    std::vector<std::string> command{environment("VKQAT_PROGRAM", VKQAT_PROGRAM)};
    if (environment("VKQAT_NATIVE_VULKAN", "") != "1") command.insert(command.begin(), VKQAT_LAUNCHER);
    command.insert(command.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (std::string& part : command) pointers.push_back(part.data());
    pointers.push_back(nullptr);

    File in = temporary_file(input), out = temporary_file(), err = temporary_file();
    pid_t pid = ::fork();
    if (pid < 0) fail("cannot start a process");
    if (pid == 0) {
        ::dup2(::fileno(in.get()), STDIN_FILENO);
        ::dup2(::fileno(out.get()), STDOUT_FILENO);
        ::dup2(::fileno(err.get()), STDERR_FILENO);
        ::alarm(300);
        ::execv(pointers[0], pointers.data());
        ::_exit(127);
    }
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, content(out.get()), content(err.get())};
}

ProgramResult run_on_device(std::vector<std::string> arguments, const std::string& input) {
    if (std::string device = environment("VKQAT_DEVICE", ""); !device.empty()) {
        arguments.push_back("--device");
        arguments.push_back(device);
    }
    return run_program(arguments, input);
}

}  // namespace vkqat::test

// The built program as a child process.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace vkqat::test {

struct ProgramResult {
    int exit_code = -1;  // -1: ended by a signal
    std::string out, err;
};

// Runs `vkqat ARGUMENTS` with `input` on stdin, through tools/cpu-vulkan unless VKQAT_NATIVE_VULKAN=1. The program is the built
// one, or what the environment variable VKQAT_PROGRAM names. Ends it after some minutes.
ProgramResult run_program(const std::vector<std::string>& arguments, const std::string& input = "");
// The same with --device, where the environment variable VKQAT_DEVICE names one.
ProgramResult run_on_device(std::vector<std::string> arguments, const std::string& input = "");

// The program while it runs.
class RunningProgram {
public:
    explicit RunningProgram(std::vector<std::string> arguments);  // as run_on_device()
    ~RunningProgram();                                            // ends it
    RunningProgram(const RunningProgram&) = delete;
    RunningProgram& operator=(const RunningProgram&) = delete;

    std::string out() const, err() const;  // so far
    void kill(int signal);
    ProgramResult wait();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace vkqat::test

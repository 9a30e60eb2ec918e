// This program again, as a child process: a step of a longer job, whose crash or whose device memory is its own.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace vkqat {

// The whole program for a command line (main.cpp); returns the exit code.
int run_program(int argc, char** argv);

// Makes SIGINT and SIGTERM ask run_child()'s children to end, once, instead of ending this program.
void forward_stop_signals();
bool stop_was_requested();

// Runs `vkqat ARGUMENTS` in a copy of this process, which must have no threads and no device open: what it prints goes to `out`
// (replaced), its stderr is appended to `log`. Returns the exit code, or 128 + the signal that ended it. `meanwhile`: called a
// few times a second. The child is asked to end (SIGTERM) where this program is, or where this program dies. Error if it cannot
// be started.
int run_child(const std::vector<std::string>& arguments, const std::filesystem::path& out, const std::filesystem::path& log,
              const std::function<void()>& meanwhile = {});

}  // namespace vkqat

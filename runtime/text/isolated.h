// Work on untrusted input by a library that does not bound its time, memory or stack. Private to this room.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace vkqat {

struct IsolationLimits {
    int seconds = 5;
    size_t memory_bytes = size_t(1) << 30;  // on top of what the process has; not enforced under AddressSanitizer
    size_t result_bytes = size_t(16) << 20;
};

// Runs `work` in a forked child process and returns what it returned. Error: what `work` threw (its message), or `what` with the
// reason where the child crashed, took too long, or returned too much. `work` must not touch devices, files or other threads.
std::string run_isolated(std::string_view what, const std::function<std::string()>& work, const IsolationLimits& limits = {});

}  // namespace vkqat

// A trace of single training steps for Perfetto (ui.perfetto.dev) or chrome://tracing, in Chrome's JSON format: a track of what
// the CPU did and one of the GPU's nodes.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/graph/executable.h"

namespace vkqat {

class Trace {
public:
    using Clock = std::chrono::steady_clock;
    enum class Track { cpu = 1, gpu_recordings = 2, gpu_nodes = 3 };

    // Between begin and end spans are kept; at other times they cost nothing.
    void begin() {
        start_ = Clock::now();
        events_.clear();
        active_ = true;
    }
    bool active() const { return active_; }
    // Writes the file: {"traceEvents": [...]}. `title` names the process in the viewer. Error: the file cannot be written.
    void end(const std::filesystem::path& file, const std::string& title);

    // Does `work` as a span on the CPU's track; returns what it returns.
    template <class Work>
    decltype(auto) cpu(const char* name, Work&& work) {
        struct Span {
            Trace& trace;
            const char* name;
            Clock::time_point start = Clock::now();
            ~Span() {
                if (trace.active_) trace.add(Track::cpu, name, start, Clock::now());
            }
        } span{*this, name};
        return work();
    }
    // The nodes of a recording that has just ended, one behind the other.
    void gpu(const std::string& recording, std::span<const ProfileRow> rows);

private:
    struct Event {
        Track track;
        std::string name;
        double start, duration;  // microseconds
        double bytes = 0, flops = 0;
    };
    double microseconds(Clock::time_point time) const { return std::chrono::duration<double, std::micro>(time - start_).count(); }
    void add(Track track, const std::string& name, Clock::time_point from, Clock::time_point to) {
        events_.push_back({track, name, microseconds(from), std::chrono::duration<double, std::micro>(to - from).count()});
    }

    bool active_ = false;
    Clock::time_point start_;
    std::vector<Event> events_;
};

}  // namespace vkqat

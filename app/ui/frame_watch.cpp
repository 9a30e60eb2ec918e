#include "app/ui/frame_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>

namespace vkqat {
namespace {

constexpr const char* submission = "submission";
constexpr size_t kept = 4096;

double seconds_of(clockid_t clock) {
    timespec t{};
    ::clock_gettime(clock, &t);
    return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

}  // namespace

FrameWatch::FrameWatch() : delay_file_(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {}

FrameWatch::~FrameWatch() {
    if (delay_file_ >= 0) ::close(delay_file_);
}

FrameWatch::Clocks FrameWatch::now() const {
    double delay = 0;
    char text[96] = {};
    // "time on a processor, time waiting for one, in nanoseconds, and turns"
    if (delay_file_ >= 0 && ::pread(delay_file_, text, sizeof text - 1, 0) > 0) {
        char* end = nullptr;
        std::strtoull(text, &end, 10);
        delay = double(std::strtoull(end, nullptr, 10)) * 1e-9;
    }
    return {seconds_of(CLOCK_MONOTONIC), delay, seconds_of(CLOCK_THREAD_CPUTIME_ID)};
}

void FrameWatch::begin() {
    sum_ = {};
    parts_.clear();
    part_ = "events";
    resume();
}

void FrameWatch::part(const char* name) {
    pause();
    part_ = name;
    resume();
}

void FrameWatch::hand_over() { part(submission); }

double FrameWatch::own(const Clocks& spent) const {
    return 1000 * (delay_file_ >= 0 ? std::max(spent.cpu, spent.wall - spent.delay) : spent.cpu);
}

void FrameWatch::pause() {
    if (!running_) return;
    running_ = false;
    const Clocks to = now();
    const Clocks spent{to.wall - from_.wall, to.delay - from_.delay, to.cpu - from_.cpu};
    if (part_ == submission)
        submit_longest_ = std::max(submit_longest_, own(spent));
    else
        sum_.wall += spent.wall, sum_.delay += spent.delay, sum_.cpu += spent.cpu;
    parts_.emplace_back(part_, spent);
}

void FrameWatch::resume() {
    running_ = true;
    from_ = now();
}

void FrameWatch::end() {
    pause();
    cpu_total_ += 1000 * sum_.cpu;
    const double own_time = own(sum_);
    over_16_ += own_time > 16;
    if (own_time > own_longest_) {
        own_longest_ = own_time;
        slowest_.clear();
        for (const auto& [name, spent] : parts_) slowest_.emplace_back(name, own(spent));
    }
    wall_longest_ = std::max(wall_longest_, 1000 * sum_.wall);
    cpu_longest_ = std::max(cpu_longest_, 1000 * sum_.cpu);
    const size_t at = size_t(frames_++) % kept;
    if (own_.size() <= at) own_.resize(at + 1);
    own_[at] = float(own_time);
}

FrameWatch::Times FrameWatch::times() const {
    Times t{.frames = frames_,
            .wall_longest = wall_longest_,
            .own_longest = own_longest_,
            .cpu_longest = cpu_longest_,
            .cpu_total = cpu_total_,
            .submit_longest = submit_longest_,
            .over_16 = over_16_,
            .slowest = slowest_};
    if (own_.empty()) return t;
    std::vector<float> sorted = own_;
    std::sort(sorted.begin(), sorted.end());
    t.own_99 = double(sorted[(sorted.size() - 1) * 99 / 100]);
    return t;
}

}  // namespace vkqat

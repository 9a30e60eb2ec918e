// How long the interface's thread is kept by a frame, outside of presentation: asking the display server for the window's size,
// waiting for a free image, submitting the drawing, handing the image over.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace vkqat {

class FrameWatch {
public:
    FrameWatch();
    ~FrameWatch();
    FrameWatch(const FrameWatch&) = delete;
    FrameWatch& operator=(const FrameWatch&) = delete;

    // A frame is what lies between begin() and end() without what lies between pause() and resume(): the presentation.
    void begin();
    void pause();
    void resume();
    void part(const char* name);  // of what follows; a frame begins with "events"
    void hand_over();             // follows: the submission, which is the driver's
    void end();

    struct Times {
        int64_t frames = 0;
        // Milliseconds. wall: on the clock. own: without the time in which the thread could have run, but other threads had all
        // processors (the kernel's run_delay); what is left is work and waiting for locks, files and devices. cpu: work only.
        // own and cpu are without the submission to the driver that draws, which may wait for a lock of its threads: submit.
        double wall_longest = 0, own_longest = 0, own_99 = 0, cpu_longest = 0, cpu_total = 0, submit_longest = 0;
        int64_t over_16 = 0;                                  // frames whose own time was longer than 16 ms
        std::vector<std::pair<std::string, double>> slowest;  // the own times of the parts of the longest frame
    };
    Times times() const;

private:
    struct Clocks {
        double wall, delay, cpu;  // seconds
    };
    Clocks now() const;
    double own(const Clocks& spent) const;  // milliseconds

    int delay_file_ = -1;  // of the kernel's scheduler; -1: it does not say, and own is cpu
    bool running_ = false;
    Clocks from_{}, sum_{};
    const char* part_ = "";
    std::vector<std::pair<const char*, Clocks>> parts_;
    std::vector<std::pair<std::string, double>> slowest_;
    int64_t frames_ = 0, over_16_ = 0;
    double wall_longest_ = 0, cpu_longest_ = 0, cpu_total_ = 0, own_longest_ = 0, submit_longest_ = 0;
    std::vector<float> own_;  // of the last frames, a ring
};

}  // namespace vkqat

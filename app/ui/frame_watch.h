// How long the interface's thread is kept by a frame, outside of presentation: asking the display server for the window's size,
// waiting for a free image, handing it over.
#pragma once

#include <cstdint>
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
    void end();

    struct Times {
        int64_t frames = 0;
        // Milliseconds. wall: on the clock. own: without the time in which the thread could have run, but other threads had all
        // processors (the kernel's run_delay); what is left is work and waiting for locks, files and devices. cpu: work only.
        double wall_longest = 0, own_longest = 0, own_99 = 0, cpu_longest = 0, cpu_total = 0;
    };
    Times times() const;  // without the first frames, which make glyphs

private:
    struct Clocks {
        double wall, delay, cpu;  // seconds
    };
    Clocks now() const;

    int delay_file_ = -1;  // of the kernel's scheduler; -1: it does not say, and own is cpu
    bool running_ = false;
    Clocks from_{}, sum_{};
    int64_t frames_ = 0;
    double wall_longest_ = 0, cpu_longest_ = 0, cpu_total_ = 0;
    std::vector<float> own_;  // of the last frames, a ring
};

}  // namespace vkqat

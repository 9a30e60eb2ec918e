// What is on the screen as JSON, for tests and for programs that help people who do not see it.
#pragma once

#include <string>

#include "app/ui/widgets.h"

namespace vkqat {

struct FrameTimes {
    long frames = 0;
    double last_ms = 0, longest_ms = 0;           // of building a frame, without presentation
    double longest_cpu_ms = 0, total_cpu_ms = 0;  // the thread's own time for it
};

// {"view", "frames": {...}, "widgets": [{label, x, y, width, height, ...}], "notes": [{role, text}]}
std::string screen_to_json(const ui::Screen& screen, const std::string& view, const FrameTimes& times);

}  // namespace vkqat

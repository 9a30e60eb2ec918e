// What is on the screen as JSON, for tests and for programs that help people who do not see it.
#pragma once

#include <string>

#include "app/ui/frame_watch.h"
#include "app/ui/widgets.h"

namespace vkqat {

// {"view", "frames": {...}, "widgets": [{label, x, y, width, height, ...}], "notes": [{role, text}]}
std::string screen_to_json(const ui::Screen& screen, const std::string& view, const FrameWatch::Times& times,
                           uint64_t submissions, int losses, bool dark);

}  // namespace vkqat

#include "app/ui/screen_dump.h"

#include <nlohmann/json.hpp>

namespace vkqat {

std::string screen_to_json(const ui::Screen& screen, const std::string& view, const FrameWatch::Times& times,
                           uint64_t submissions, int losses, bool dark) {
    nlohmann::ordered_json j{{"view", view},
                             {"dark", dark},
                             {"frames",
                              {{"count", times.frames},
                               {"submissions", submissions},
                               {"losses", losses},
                               {"wall_longest_ms", times.wall_longest},
                               {"own_longest_ms", times.own_longest},
                               {"own_99_ms", times.own_99},
                               {"cpu_longest_ms", times.cpu_longest},
                               {"cpu_total_ms", times.cpu_total},
                               {"submit_longest_ms", times.submit_longest},
                               {"over_16_ms", times.over_16},
                               {"slowest", nlohmann::ordered_json::array()}}},
                             {"widgets", nlohmann::ordered_json::array()},
                             {"notes", nlohmann::ordered_json::array()}};
    for (const auto& [part, ms] : times.slowest) j["frames"]["slowest"].push_back({part, ms});
    for (const ui::Widget& w : screen.widgets) {
        if (w.label.empty()) continue;
        nlohmann::ordered_json item{{"label", w.label}, {"window", w.window}, {"x", w.x},
                                    {"y", w.y},         {"width", w.width},   {"height", w.height}};
        if (!w.enabled) item["enabled"] = false;
        if (w.checkable) item["checked"] = w.checked;
        if (w.openable) item["open"] = w.open;
        if (w.input) item["input"] = true;
        if (w.cut) item["cut"] = true;
        j["widgets"].push_back(std::move(item));
    }
    for (const ui::Note& note : screen.notes) j["notes"].push_back({{"role", note.role}, {"text", note.text}});
    return j.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace vkqat

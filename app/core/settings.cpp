#include "app/core/settings.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

using json = nlohmann::ordered_json;

// Every member once, for both directions.
template <class S, class Visit>
void members(S& s, Visit&& visit) {
    visit("theme", s.theme);
    visit("font_size", s.font_size);
    visit("scale", s.scale);
    visit("folders", s.folders);
    visit("runs", s.runs);
    visit("results", s.results);
    visit("last_used", s.last_used);
    visit("device", s.device);
    visit("model", s.model);
    visit("second_model", s.second_model);
    visit("conversation", s.conversation);
    visit("cache", s.cache);
    visit("context", s.context);
    visit("sidebar", s.sidebar);
    visit("chat_panel", s.chat_panel);
    visit("compare", s.compare);
    visit("width", s.width);
    visit("height", s.height);
}

std::filesystem::path folder(const char* variable, const char* below_home) {
    if (const char* value = std::getenv(variable); value && *value == '/') return std::filesystem::path(value) / "vkqat";
    const char* home = std::getenv("HOME");
    if (!home || !*home) fail("neither {} nor HOME says where settings and conversations are to be kept", variable);
    return std::filesystem::path(home) / below_home / "vkqat";
}

}  // namespace

std::string to_json(const Settings& settings) {
    json j = json::object();
    members(settings, [&](const char* name, const auto& value) { j[name] = value; });
    return j.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

Settings settings_from_json(std::string_view text, std::string_view where) {
    Settings s;
    try {
        const json j = json::parse(text);
        members(s, [&](const char* name, auto& value) {
            if (auto found = j.find(name); found != j.end()) found->get_to(value);
        });
    } catch (const nlohmann::json::exception& e) {
        fail("{}: {}", where, e.what());
    }
    s.font_size = std::clamp(s.font_size, 10.0, 32.0);
    if (s.scale != 0) s.scale = std::clamp(s.scale, 0.5, 4.0);
    s.width = std::clamp(s.width, 400, 10000), s.height = std::clamp(s.height, 300, 10000);
    s.context = std::clamp<int64_t>(s.context, 0, int64_t(1) << 24);
    return s;
}

std::filesystem::path config_folder() { return folder("XDG_CONFIG_HOME", ".config"); }
std::filesystem::path data_folder() { return folder("XDG_DATA_HOME", ".local/share"); }

}  // namespace vkqat

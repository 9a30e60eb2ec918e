#include "runtime/formats/json_text.h"

#include <nlohmann/json.hpp>

#include "runtime/support/error.h"
#include "runtime/support/files.h"

namespace vkqat {

std::string printable(std::string_view text, size_t max_length) {
    std::string result;
    for (char c : text) {
        if (result.size() >= max_length) return result + "...";
        auto u = static_cast<unsigned char>(c);
        if (u >= 0x20 && u < 0x7f) {
            result += c;
        } else {
            result += fmt::format("\\x{:02x}", u);
        }
    }
    return result;
}

bool has_file(const std::filesystem::path& path) {
    std::error_code error;
    return std::filesystem::exists(path, error) || error;
}

nlohmann::json parse_json(std::string_view text, std::string_view where, int max_depth) {
    auto depth_check = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json&) {
        using Event = nlohmann::json::parse_event_t;
        if ((event == Event::object_start || event == Event::array_start) && depth >= max_depth) {
            fail("{}: the JSON is nested deeper than {} levels", where, max_depth);
        }
        return true;
    };
    try {
        return nlohmann::json::parse(text.begin(), text.end(), depth_check);
    } catch (const nlohmann::json::exception& e) {
        fail("{}: not valid JSON: {}", where, printable(e.what(), 300));
    }
}

nlohmann::json read_json_object(const std::filesystem::path& path, size_t max_bytes) {
    nlohmann::json value = parse_json(read_text_file(path, max_bytes), path.string());
    if (!value.is_object()) fail("{}: expected a JSON object, found {}", path.string(), value.type_name());
    return value;
}

}  // namespace vkqat

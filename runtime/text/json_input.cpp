#include "runtime/text/json_input.h"

namespace vkqat {

nlohmann::json parse_json(std::string_view text) {
    constexpr int max_depth = 64;
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > max_depth) fail("JSON nested deeper than {} levels (at byte {})", max_depth, i);
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    try {
        return nlohmann::json::parse(text);
    } catch (const nlohmann::json::exception& e) {
        fail("malformed JSON: {}", e.what());
    }
}

}  // namespace vkqat

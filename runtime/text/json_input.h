// Reading JSON that may be hostile. Private to this room; include it in .cpp files only.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "runtime/support/error.h"

namespace vkqat {

// Error for malformed JSON, for invalid UTF-8 and for more than 64 levels (a parsed tree is copied and freed recursively).
nlohmann::json parse_json(std::string_view text);

inline const nlohmann::json& json_null() {
    static const nlohmann::json null;
    return null;
}

// `object[key]`, null where it is missing. Error if `object` is no object.
inline const nlohmann::json& json_get(const nlohmann::json& object, const char* key) {
    if (!object.is_object()) fail("expected an object with \"{}\", found {}", key, object.type_name());
    auto found = object.find(key);
    return found == object.end() ? json_null() : *found;
}

inline std::string json_string(const nlohmann::json& object, const char* key) {
    const auto& value = json_get(object, key);
    if (!value.is_string()) fail("\"{}\": expected a string, found {}", key, value.type_name());
    return value.get<std::string>();
}

inline bool json_bool(const nlohmann::json& object, const char* key, bool missing) {
    const auto& value = json_get(object, key);
    if (value.is_null()) return missing;
    if (!value.is_boolean()) fail("\"{}\": expected true or false, found {}", key, value.type_name());
    return value.get<bool>();
}

// An id or count in 0 ... highest.
inline int64_t json_integer(const nlohmann::json& value, std::string_view what, int64_t highest) {
    if (!value.is_number_integer()) fail("{}: expected an integer, found {}", what, value.type_name());
    const bool fits = value.is_number_unsigned() ? value.get<uint64_t>() <= uint64_t(highest)
                                                 : value.get<int64_t>() >= 0 && value.get<int64_t>() <= highest;
    if (!fits) fail("{}: expected 0 to {}, found {}", what, highest, value.dump());
    return value.get<int64_t>();
}

}  // namespace vkqat

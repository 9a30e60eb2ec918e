// Settings from untrusted files: JSON of bounded size and depth, errors that name the file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace vkqat {

// Text of a file for use in a message: control characters and bytes beyond ASCII escaped, cut at `max_length`.
std::string printable(std::string_view text, size_t max_length = 160);

// Whether there is something under that name. One that cannot be looked at counts: opening it gives the better error.
bool has_file(const std::filesystem::path& path);

// Parses one JSON value. Error, beginning with `where`, if it is malformed, not UTF-8, or nested deeper than `max_depth`.
// Of a key that stands twice in an object the last one counts.
nlohmann::json parse_json(std::string_view text, std::string_view where, int max_depth = 32);

// A file that must hold one JSON object. Error if it is larger than `max_bytes`.
nlohmann::json read_json_object(const std::filesystem::path& path, size_t max_bytes = size_t(16) << 20);

}  // namespace vkqat

// Lines that are broken to fit a box while somebody writes: a break of ours is a zero-width space and a line feed, so that it can
// be told from one that was typed.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

inline constexpr std::string_view soft_break = "\xe2\x80\x8b\n";

// The text without our breaks. Where only the line feed of one was deleted, the character before it goes, which was meant.
// `places` (byte offsets, as of a cursor) are moved along.
std::string without_soft_breaks(std::string_view text, const std::vector<int*>& places = {});
// Breaks lines wider than `width`, behind spaces where there are any. The text has no breaks of ours.
std::string with_soft_breaks(std::string_view text, float width, const std::function<float(std::string_view)>& width_of,
                             const std::vector<int*>& places = {});

}  // namespace vkqat

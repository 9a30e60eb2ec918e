// Strings as Python has them, in which the published harness builds its prompts. All texts are valid UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace vkqat {

bool is_white_space(char32_t code);                  // str.isspace() of one character
std::string_view strip(std::string_view text);       // white space at both ends
size_t trailing_white_space(std::string_view text);  // bytes of it at the end
size_t count_characters(std::string_view text);      // code points
std::string capitalize(std::string_view text);       // first letter upper, all others lower; letters beyond Latin-1 as they are
std::string replace_all(std::string text, std::string_view from, std::string_view to);

}  // namespace vkqat

// Fonts of the distribution that are embedded in the program (cmake/Desktop.cmake).
#pragma once

#include <span>

namespace vkqat {

enum class Font { regular, italic, bold, mono, wide, cjk, symbols, icons };
std::span<const unsigned char> embedded_font(Font font);

}  // namespace vkqat

// Pictures as PNG files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace vkqat {

// rgb: rows from the top, 3 bytes a pixel. Error if their number is another.
std::string to_png(uint32_t width, uint32_t height, std::span<const uint8_t> rgb);
void write_png(const std::filesystem::path& path, uint32_t width, uint32_t height, std::span<const uint8_t> rgb);

}  // namespace vkqat

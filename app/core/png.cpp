#include "app/core/png.h"

#include <zlib.h>

#include <string>
#include <vector>

#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "runtime/support/hash.h"

namespace vkqat {
namespace {

void put(std::string& to, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) to += char(value >> shift & 255);
}

void chunk(std::string& to, const std::string& name, const std::string& data) {
    put(to, uint32_t(data.size()));
    const std::string body = name + data;
    to += body;
    put(to, checksum(std::as_bytes(std::span(body.data(), body.size()))));
}

}  // namespace

std::string to_png(uint32_t width, uint32_t height, std::span<const uint8_t> rgb) {
    if (width == 0 || height == 0 || rgb.size() != size_t(width) * height * 3)
        fail("a picture of {} x {} has no {} bytes", width, height, rgb.size());
    // Every row as its difference to the row above (filter 2), which packs flat areas well.
    const size_t row = size_t(width) * 3;
    std::vector<uint8_t> filtered;
    filtered.reserve((row + 1) * height);
    for (uint32_t y = 0; y < height; y++) {
        filtered.push_back(2);
        for (size_t x = 0; x < row; x++) filtered.push_back(uint8_t(rgb[y * row + x] - (y ? rgb[(y - 1) * row + x] : 0)));
    }
    uLongf size = compressBound(uLong(filtered.size()));
    std::string packed(size, '\0');
    if (compress2(reinterpret_cast<Bytef*>(packed.data()), &size, filtered.data(), uLong(filtered.size()), 9) != Z_OK)
        fail("the picture could not be packed");
    packed.resize(size);
    std::string header;
    put(header, width);
    put(header, height);
    header += std::string("\x08\x02\x00\x00\x00", 5);
    std::string file = "\x89PNG\r\n\x1a\n";
    chunk(file, "IHDR", header);
    chunk(file, "IDAT", packed);
    chunk(file, "IEND", "");
    return file;
}

void write_png(const std::filesystem::path& path, uint32_t width, uint32_t height, std::span<const uint8_t> rgb) {
    write_text_file(path, to_png(width, height, rgb));
}

}  // namespace vkqat

// The decompressed bytes of a file, in pieces: plain, .gz or .zst by its name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace vkqat {

class ByteSource {
public:
    virtual ~ByteSource() = default;
    // Fills as much of `out` as there is; fewer bytes than asked for, or 0, only at the end. Error: unreadable, damaged, cut off.
    virtual size_t read(std::span<char> out) = 0;
    // Bytes of the file as it lies on the disk that have been read, for a display of progress.
    virtual uint64_t consumed() const = 0;
};

std::unique_ptr<ByteSource> open_byte_source(const std::filesystem::path& file);

}  // namespace vkqat

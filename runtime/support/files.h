// Files: mapped for reading, written beside their name and renamed, so that nothing half-written is ever seen.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace vkqat {

// A whole file mapped read-only. An empty file maps to an empty span.
class MappedFile {
public:
    explicit MappedFile(const std::filesystem::path& path);  // Error if it cannot be opened or is no regular file
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    std::span<const std::byte> bytes() const { return {data_, size_}; }
    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
    const std::byte* data_ = nullptr;
    size_t size_ = 0;
};

// Writes a file under a temporary name in the same folder; commit() syncs and renames it. Without commit() nothing stays.
class AtomicFile {
public:
    explicit AtomicFile(const std::filesystem::path& path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;
    void write(std::span<const std::byte> bytes);  // Error if the disk is full
    void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
    void commit();

private:
    std::filesystem::path path_, temporary_;
    int fd_ = -1;
};

// A new folder that appears under its name complete or not at all: `fill` writes into a temporary folder beside it. Once it
// has its name it outlives a power failure. Error if `path` exists.
void write_directory(const std::filesystem::path& path, const std::function<void(const std::filesystem::path&)>& fill);

std::string read_text_file(const std::filesystem::path& path, size_t max_bytes = size_t(1) << 30);
void write_text_file(const std::filesystem::path& path, std::string_view text);  // atomic

}  // namespace vkqat

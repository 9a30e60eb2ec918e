// A log that grows during a run. A full disk ends no training: what it does not take waits in memory until there is room.
#pragma once

#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>

namespace vkqat {

class AppendFile {
public:
    explicit AppendFile(const std::filesystem::path& path);  // made where it is missing; Error if it cannot be opened
    ~AppendFile();
    AppendFile(const AppendFile&) = delete;
    AppendFile& operator=(const AppendFile&) = delete;

    void write(std::string_view bytes);  // Error unless it worked or the disk is full
    void sync();                         // all to the disk; Error if that fails. May be called from another thread

private:
    bool flush();
    std::filesystem::path path_;
    std::mutex mutex_;
    std::string pending_;
    int fd_ = -1;
};

}  // namespace vkqat

#include "trainer/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/support/error.h"

namespace vkqat {

AppendFile::AppendFile(const std::filesystem::path& path)
    : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (fd_ < 0) fail("{}: cannot open the file: {}", path.string(), std::strerror(errno));
}

AppendFile::~AppendFile() {
    flush();
    ::close(fd_);
}

// False, with errno, if something is left.
bool AppendFile::flush() {
    while (!pending_.empty()) {
        ssize_t n = ::write(fd_, pending_.data(), pending_.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        pending_.erase(0, size_t(n));
    }
    return true;
}

void AppendFile::write(std::string_view bytes) {
    std::lock_guard lock(mutex_);
    pending_ += bytes;
    if (flush() || errno == ENOSPC || errno == EDQUOT || errno == EFBIG) return;
    fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
}

void AppendFile::sync() {
    std::lock_guard lock(mutex_);
    if (!flush() || ::fsync(fd_) != 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
}

}  // namespace vkqat

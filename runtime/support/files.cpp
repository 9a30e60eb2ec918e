#include "runtime/support/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/support/error.h"

namespace vkqat {
namespace fs = std::filesystem;

MappedFile::MappedFile(const fs::path& path) : path_(path) {
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail("{}: cannot open the file: {}", path.string(), std::strerror(errno));
    struct stat info {};
    if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        ::close(fd);
        fail("{}: is no regular file", path.string());
    }
    size_ = size_t(info.st_size);
    if (size_ > 0) {
        void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            int error = errno;
            ::close(fd);
            fail("{}: cannot map {} bytes: {}", path.string(), size_, std::strerror(error));
        }
        data_ = static_cast<const std::byte*>(p);
    }
    ::close(fd);
}

MappedFile::~MappedFile() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

AtomicFile::AtomicFile(const fs::path& path) : path_(path), temporary_(path.string() + ".tmp" + std::to_string(::getpid())) {
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) fail("{}: cannot create the file: {}", path.string(), std::strerror(errno));
}

AtomicFile::~AtomicFile() {
    if (fd_ >= 0) {
        ::close(fd_);
        ::unlink(temporary_.c_str());
    }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        ssize_t n = ::write(fd_, bytes.data(), std::min(bytes.size(), size_t(1) << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
        bytes = bytes.subspan(size_t(n));
    }
}

void AtomicFile::commit() {
    if (::fsync(fd_) != 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
    ::close(std::exchange(fd_, -1));
    std::error_code error;
    fs::rename(temporary_, path_, error);
    if (error) {
        ::unlink(temporary_.c_str());
        fail("{}: cannot rename the finished file: {}", path_.string(), error.message());
    }
}

// Makes the names in a folder durable. Some file systems cannot, and that is no error.
static void sync_folder(const fs::path& path) {
    int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    ::fsync(fd);
    ::close(fd);
}

void write_directory(const fs::path& path, const std::function<void(const fs::path&)>& fill) {
    if (fs::exists(path)) fail("{}: exists already; choose another name or remove it", path.string());
    fs::path temporary = path.string() + ".tmp" + std::to_string(::getpid());
    std::error_code error;
    fs::remove_all(temporary, error);
    fs::create_directories(temporary, error);
    if (error) fail("{}: cannot create the folder: {}", path.string(), error.message());
    try {
        fill(temporary);
        for (const auto& entry : fs::recursive_directory_iterator(temporary))
            if (entry.is_directory()) sync_folder(entry.path());
        sync_folder(temporary);
        fs::rename(temporary, path);
        sync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
    } catch (const fs::filesystem_error& e) {
        fs::remove_all(temporary, error);
        fail("{}: {}", path.string(), e.what());
    } catch (...) {
        fs::remove_all(temporary, error);
        throw;
    }
}

std::string read_text_file(const fs::path& path, size_t max_bytes) {
    MappedFile file(path);
    auto bytes = file.bytes();
    if (bytes.size() > max_bytes) fail("{}: {} bytes is too large (at most {})", path.string(), bytes.size(), max_bytes);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void write_text_file(const fs::path& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

}  // namespace vkqat

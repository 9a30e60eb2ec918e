#include "trainer/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/support/error.h"

namespace vkqat {

SharedMemory::SharedMemory(uint64_t bytes) : bytes_(bytes) {
    fd_ = ::memfd_create("vkqat", MFD_CLOEXEC);
    int error = fd_ < 0 ? errno : ::posix_fallocate(fd_, 0, off_t(std::max<uint64_t>(bytes, 1)));
    if (error) {
        SharedMemory().swap(*this);
        fail("{:.1f} MB of memory to share between the ranks of this machine cannot be had: {}", double(bytes) / 1e6,
             std::strerror(error));
    }
    map("made");
}

SharedMemory::SharedMemory(pid_t process, int number, uint64_t bytes) : bytes_(bytes) {
    const std::string path = fmt::format("/proc/{}/fd/{}", process, number);
    fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ < 0) fail("{}: cannot be opened: {}", path, std::strerror(errno));
    map("opened");
}

void SharedMemory::map(const char* what) {
    void* data = ::mmap(nullptr, std::max<uint64_t>(bytes_, 1), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (data == MAP_FAILED) {
        const int error = errno;
        SharedMemory().swap(*this);
        fail("shared memory was {}, but cannot be mapped: {}", what, std::strerror(error));
    }
    data_ = static_cast<std::byte*>(data);
}

SharedMemory::~SharedMemory() {
    if (data_) ::munmap(data_, std::max<uint64_t>(bytes_, 1));
    if (fd_ >= 0) ::close(fd_);
}

void SharedMemory::swap(SharedMemory& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
}

}  // namespace vkqat

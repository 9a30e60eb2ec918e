// Memory that several processes of one machine map. It has no name in any folder and goes when the last of them ends.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace vkqat {

class SharedMemory {
public:
    SharedMemory() = default;
    explicit SharedMemory(uint64_t bytes);                    // made here, filled with 0. Error: not that much memory
    SharedMemory(pid_t process, int number, uint64_t bytes);  // made by another process, which knows it by number()
    ~SharedMemory();
    SharedMemory(SharedMemory&& other) noexcept { swap(other); }
    SharedMemory& operator=(SharedMemory&& other) noexcept {
        SharedMemory(static_cast<SharedMemory&&>(other)).swap(*this);
        return *this;
    }

    int number() const { return fd_; }
    std::byte* data() const { return data_; }
    uint64_t bytes() const { return bytes_; }

private:
    void map(const char* what);
    void swap(SharedMemory& other) noexcept;
    int fd_ = -1;
    std::byte* data_ = nullptr;
    uint64_t bytes_ = 0;
};

}  // namespace vkqat

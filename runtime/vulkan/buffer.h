// GPU memory that shaders reach by its device address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "runtime/vulkan/vulkan.h"

struct VmaAllocator_T;
struct VmaAllocation_T;

namespace vkqat {

class Device;

enum class MemoryKind { device, host };

class Buffer {
public:
    Buffer() = default;
    Buffer(Device& device, uint64_t bytes, MemoryKind kind, const std::string& what);  // Error: how much, for what, what is free
    ~Buffer();
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        Buffer(std::move(other)).swap(*this);
        return *this;
    }

    explicit operator bool() const { return buffer_ != VK_NULL_HANDLE; }
    VkBuffer handle() const { return buffer_; }
    uint64_t address() const { return address_; }
    uint64_t bytes() const { return bytes_; }
    void* mapped() const { return mapped_; }  // nullptr unless MemoryKind::host
    template <class T>
    std::span<T> mapped_as() const {
        return {static_cast<T*>(mapped_), size_t(bytes_ / sizeof(T))};
    }

private:
    void swap(Buffer& other) noexcept;
    VmaAllocator_T* allocator_ = nullptr;
    VmaAllocation_T* allocation_ = nullptr;
    VkBuffer buffer_ = VK_NULL_HANDLE;
    uint64_t address_ = 0, bytes_ = 0;
    void* mapped_ = nullptr;
};

}  // namespace vkqat

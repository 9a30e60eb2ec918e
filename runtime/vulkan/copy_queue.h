// Copies between buffers beside the compute queue, and memory of the process that a device uses in place.
#pragma once

#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "runtime/vulkan/device.h"

namespace vkqat {

// Memory of this process as a buffer of the device, which reads and writes it across the bus without a copy. The memory must
// outlive it and begin and end at multiples of Capabilities::host_memory_alignment.
class HostMemory {
public:
    HostMemory() = default;
    HostMemory(Device& device, void* memory, uint64_t bytes, const std::string& what);  // Error: the device cannot take it
    ~HostMemory();
    HostMemory(HostMemory&& other) noexcept { swap(other); }
    HostMemory& operator=(HostMemory&& other) noexcept {
        HostMemory(std::move(other)).swap(*this);
        return *this;
    }
    VkBuffer handle() const { return buffer_; }

private:
    void swap(HostMemory& other) noexcept;
    Device* device_ = nullptr;
    VkBuffer buffer_ = VK_NULL_HANDLE;
    VkDeviceMemory memory_ = VK_NULL_HANDLE;
};

struct BufferPart {
    VkBuffer buffer;
    uint64_t offset;
};

// Copies in the order in which they are given. Where the device has no queue for copies they are submitted to the compute queue,
// among its own work; then only the thread that submits that may call.
class CopyQueue {
public:
    CopyQueue(Device& device, uint32_t index);  // index: copies of different indices may run at the same time
    ~CopyQueue();                               // waits for them
    CopyQueue(const CopyQueue&) = delete;
    CopyQueue& operator=(const CopyQueue&) = delete;

    bool beside_compute() const { return queue_ != VK_NULL_HANDLE; }
    // Submits a copy that begins when the device's own timeline has reached `after`. Returns the value that this queue's timeline
    // reaches behind it. What it wrote is seen by the host, and by what is submitted after a wait for it.
    uint64_t copy(BufferPart from, BufferPart to, uint64_t bytes, uint64_t after = 0);
    // Several pieces at once; at least one.
    uint64_t copy(VkBuffer from, VkBuffer to, std::span<const VkBufferCopy> pieces, uint64_t after = 0);
    void wait(uint64_t value);
    uint64_t submitted() const { return submitted_; }

private:
    struct Commands {
        VkCommandBuffer buffer;
        uint64_t value;  // in use until the timeline has reached it
    };
    VkCommandBuffer free_commands();

    Device& device_;
    std::mutex mutex_;
    VkQueue queue_ = VK_NULL_HANDLE;
    VkSemaphore timeline_ = VK_NULL_HANDLE;
    VkCommandPool pool_ = VK_NULL_HANDLE;
    std::vector<Commands> commands_;
    uint64_t submitted_ = 0;
};

}  // namespace vkqat

// A logical device with one compute queue: submissions in order on a timeline, memory, pipelines.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/vulkan/buffer.h"
#include "runtime/vulkan/capabilities.h"
#include "runtime/vulkan/instance.h"
#include "runtime/vulkan/pipelines.h"

namespace vkqat {

struct DeviceOptions {
    std::string selector;        // index or part of a name; empty: the best one
    uint32_t which = 0;          // of several devices that the selector means, as Instance::select()
    uint32_t subgroup_size = 0;  // 0: the driver's default; otherwise stated for every pipeline (8, 16, 32, 64)
    bool pipeline_disk_cache = true;
    bool cooperative_matrices = true;  // false: as if the device had none (the portable variants run)
    bool compile_only = false;         // pipelines only, for drivers that compile without their hardware; submitting is an error
};

class Device {
public:
    Device(const Instance& instance, const DeviceOptions& options = {});
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    VkDevice handle() const { return device_; }
    VkPhysicalDevice physical() const { return physical_; }
    const VolkDeviceTable& vk() const { return vk_; }
    const Capabilities& capabilities() const { return capabilities_; }
    uint32_t queue_family() const { return queue_family_; }
    // Queues that copy beside the compute queue (copy_queue.h), 0 to 2, and the families that use a buffer.
    const std::vector<VkQueue>& copy_queues() const { return copy_queues_; }
    const std::vector<uint32_t>& queue_families() const { return queue_families_; }
    // Makes a buffer that is to be created usable on all of them without handing it over.
    void share(VkBufferCreateInfo& info) const {
        if (queue_families_.size() < 2) return;
        info.sharingMode = VK_SHARING_MODE_CONCURRENT;
        info.queueFamilyIndexCount = uint32_t(queue_families_.size());
        info.pQueueFamilyIndices = queue_families_.data();
    }
    VkSemaphore timeline() const { return timeline_; }
    Pipelines& pipelines() { return *pipelines_; }
    VmaAllocator_T* allocator() const { return allocator_; }

    // Device-local memory, readable and writable by shaders. `what` is named when there is not enough.
    Buffer allocate(uint64_t bytes, const std::string& what) { return Buffer(*this, bytes, MemoryKind::device, what); }
    // Host memory that shaders read and write directly and that stays mapped.
    Buffer allocate_host(uint64_t bytes, const std::string& what) { return Buffer(*this, bytes, MemoryKind::host, what); }

    // Bytes of device memory that are free for this process (an estimate where the driver keeps no budget).
    uint64_t free_memory() const;

    // Copies between host and device memory through a staging buffer; waits for earlier submissions and for the copy.
    void upload(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes);
    void download(const Buffer& from, uint64_t offset, std::span<std::byte> bytes);

    // Submits a command buffer after all earlier ones, several times in a row if told so; returns the timeline value that is
    // reached when all is done.
    uint64_t submit(VkCommandBuffer commands, uint32_t times = 1);
    // Waits until the timeline has reached `value`. Error when the device is lost.
    void wait(uint64_t value);
    void wait_idle() { wait(submitted_); }
    uint64_t completed() const;  // the timeline's value now
    uint64_t submitted() const { return submitted_; }

private:
    void create_logical_device(bool compile_only);
    void run_transfer(const Buffer& staging, const Buffer& other, uint64_t offset, uint64_t bytes, bool upload);

    Capabilities capabilities_;
    VkPhysicalDevice physical_ = VK_NULL_HANDLE;
    VkInstance instance_ = VK_NULL_HANDLE;
    VkDevice device_ = VK_NULL_HANDLE;
    VolkDeviceTable vk_ = {};
    VkQueue queue_ = VK_NULL_HANDLE;
    uint32_t queue_family_ = 0;
    std::vector<VkQueue> copy_queues_;
    std::vector<uint32_t> queue_families_;  // the compute queue's, then that of the copies if there is one
    VkSemaphore timeline_ = VK_NULL_HANDLE;
    uint64_t submitted_ = 0;
    VkCommandPool transfer_pool_ = VK_NULL_HANDLE;
    VkCommandBuffer transfer_commands_ = VK_NULL_HANDLE;
    VmaAllocator_T* allocator_ = nullptr;
    std::unique_ptr<Pipelines> pipelines_;
    std::unique_ptr<Buffer> staging_;
};

}  // namespace vkqat

#include "runtime/vulkan/buffer.h"

#include <algorithm>
#include <utility>

#include "runtime/vulkan/device.h"
#include "runtime/vulkan/vma.h"

namespace vkqat {

Buffer::Buffer(Device& device, uint64_t bytes, MemoryKind kind, const std::string& what) {
    uint64_t limit = device.capabilities().max_allocation_bytes;
    if (bytes > limit)
        fail("{}: {} bytes in one allocation, but this device allows {} at most; choose a smaller batch or sequence", what, bytes,
             limit);
    VkBufferCreateInfo info{.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                            .size = std::max<uint64_t>((bytes + 15) / 16 * 16, 16),
                            .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT |
                                     VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                                     VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT};
    device.share(info);
    VmaAllocationCreateInfo how{.usage = VMA_MEMORY_USAGE_AUTO};
    if (kind == MemoryKind::host) {
        how.usage = VMA_MEMORY_USAGE_AUTO_PREFER_HOST;
        how.flags = VMA_ALLOCATION_CREATE_MAPPED_BIT | VMA_ALLOCATION_CREATE_HOST_ACCESS_RANDOM_BIT;
        how.requiredFlags = VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    } else {
        how.usage = VMA_MEMORY_USAGE_AUTO_PREFER_DEVICE;
        how.requiredFlags = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    }
    VmaAllocationInfo result_info;
    VkResult result = vmaCreateBuffer(device.allocator(), &info, &how, &buffer_, &allocation_, &result_info);
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY)
        fail("out of {} memory: {:.1f} MB wanted for {}, about {:.1f} MB free; choose a smaller model, batch or context",
             kind == MemoryKind::host ? "host" : "device", double(bytes) / 1e6, what, double(device.free_memory()) / 1e6);
    check(result, "allocating " + what);
    allocator_ = device.allocator();
    bytes_ = bytes;
    mapped_ = kind == MemoryKind::host ? result_info.pMappedData : nullptr;
    VkBufferDeviceAddressInfo address{.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO, .buffer = buffer_};
    address_ = device.vk().vkGetBufferDeviceAddress(device.handle(), &address);
}

Buffer::~Buffer() {
    if (buffer_) vmaDestroyBuffer(allocator_, buffer_, allocation_);
}

void Buffer::swap(Buffer& other) noexcept {
    std::swap(allocator_, other.allocator_);
    std::swap(allocation_, other.allocation_);
    std::swap(buffer_, other.buffer_);
    std::swap(address_, other.address_);
    std::swap(bytes_, other.bytes_);
    std::swap(mapped_, other.mapped_);
}

}  // namespace vkqat

#include "runtime/vulkan/copy_queue.h"

#include <utility>

#include "runtime/vulkan/barrier.h"

namespace vkqat {

HostMemory::HostMemory(Device& device, void* memory, uint64_t bytes, const std::string& what) : device_(&device) {
    const auto& vk = device.vk();
    constexpr auto type = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
    if (!device.capabilities().host_memory_alignment)
        fail("{}: {} cannot use the program's memory", what, device.capabilities().name);
    VkMemoryHostPointerPropertiesEXT pointer{.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    check(vk.vkGetMemoryHostPointerPropertiesEXT(device.handle(), type, memory, &pointer), "looking at memory for " + what);
    VkExternalMemoryBufferCreateInfo external{.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, .handleTypes = type};
    VkBufferCreateInfo info{.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                            .pNext = &external,
                            .size = bytes,
                            .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    device.share(info);
    check(vk.vkCreateBuffer(device.handle(), &info, nullptr, &buffer_), "making a buffer for " + what);
    VkMemoryRequirements needs;
    vk.vkGetBufferMemoryRequirements(device.handle(), buffer_, &needs);
    VkPhysicalDeviceMemoryProperties memories;
    vkGetPhysicalDeviceMemoryProperties(device.physical(), &memories);
    constexpr VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkImportMemoryHostPointerInfoEXT import{
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT, .handleType = type, .pHostPointer = memory};
    VkMemoryAllocateInfo allocate{.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .pNext = &import, .allocationSize = bytes};
    VkResult result = VK_ERROR_INVALID_EXTERNAL_HANDLE;
    for (uint32_t i = 0; i < memories.memoryTypeCount && result < 0; i++) {
        if (!(needs.memoryTypeBits & pointer.memoryTypeBits & (1u << i))) continue;
        if ((memories.memoryTypes[i].propertyFlags & wanted) != wanted) continue;
        allocate.memoryTypeIndex = i;
        result = vk.vkAllocateMemory(device.handle(), &allocate, nullptr, &memory_);
    }
    if (result >= 0) result = vk.vkBindBufferMemory(device.handle(), buffer_, memory_, 0);
    if (result < 0) {
        HostMemory().swap(*this);
        fail("{}: {} does not take {} bytes of the program's memory: Vulkan answered {}", what, device.capabilities().name, bytes,
             result_name(result));
    }
}

HostMemory::~HostMemory() {
    if (!device_) return;
    if (buffer_) device_->vk().vkDestroyBuffer(device_->handle(), buffer_, nullptr);
    if (memory_) device_->vk().vkFreeMemory(device_->handle(), memory_, nullptr);
}

void HostMemory::swap(HostMemory& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(buffer_, other.buffer_);
    std::swap(memory_, other.memory_);
}

CopyQueue::CopyQueue(Device& device, uint32_t index) : device_(device) {
    const auto& vk = device.vk();
    const auto& queues = device.copy_queues();
    uint32_t family = device.queue_family();
    if (!queues.empty()) {
        queue_ = queues[index % queues.size()];
        family = device.queue_families()[1];
        VkSemaphoreTypeCreateInfo type{.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                       .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
        VkSemaphoreCreateInfo semaphore{.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
        check(vk.vkCreateSemaphore(device.handle(), &semaphore, nullptr, &timeline_), "creating a timeline for copies");
    }
    VkCommandPoolCreateInfo pool{.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                 .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                 .queueFamilyIndex = family};
    check(vk.vkCreateCommandPool(device.handle(), &pool, nullptr, &pool_), "creating a command pool");
}

CopyQueue::~CopyQueue() {
    try {
        wait(submitted_);
    } catch (const Error&) {
        // The device is lost: nothing runs any more.
    }
    device_.vk().vkDestroyCommandPool(device_.handle(), pool_, nullptr);
    if (timeline_) device_.vk().vkDestroySemaphore(device_.handle(), timeline_, nullptr);
}

VkCommandBuffer CopyQueue::free_commands() {
    uint64_t done = 0;
    if (timeline_)
        check(device_.vk().vkGetSemaphoreCounterValue(device_.handle(), timeline_, &done), "asking how far the copies are");
    else
        done = device_.completed();
    for (Commands& c : commands_)
        if (c.value <= done) {
            std::swap(c, commands_.back());
            return commands_.back().buffer;
        }
    VkCommandBufferAllocateInfo allocate{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                         .commandPool = pool_,
                                         .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                         .commandBufferCount = 1};
    VkCommandBuffer buffer = VK_NULL_HANDLE;
    check(device_.vk().vkAllocateCommandBuffers(device_.handle(), &allocate, &buffer), "allocating a command buffer");
    commands_.push_back({buffer, 0});
    return buffer;
}

uint64_t CopyQueue::copy(BufferPart from, BufferPart to, uint64_t bytes, uint64_t after) {
    const VkBufferCopy piece{from.offset, to.offset, bytes};
    return copy(from.buffer, to.buffer, std::span(&piece, 1), after);
}

uint64_t CopyQueue::copy(VkBuffer from, VkBuffer to, std::span<const VkBufferCopy> pieces, uint64_t after) {
    std::lock_guard lock(mutex_);
    const auto& vk = device_.vk();
    VkCommandBuffer commands = free_commands();
    VkCommandBufferBeginInfo begin{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                   .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    check(vk.vkBeginCommandBuffer(commands, &begin), "recording a copy");
    // Copies of one queue touch different memory: among themselves they need no order.
    if (!beside_compute()) full_barrier(vk, commands);
    vk.vkCmdCopyBuffer(commands, from, to, uint32_t(pieces.size()), pieces.data());
    full_barrier(vk, commands);
    check(vk.vkEndCommandBuffer(commands), "recording a copy");
    if (!beside_compute()) return commands_.back().value = submitted_ = device_.submit(commands);

    VkCommandBufferSubmitInfo buffer{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO, .commandBuffer = commands};
    VkSemaphoreSubmitInfo wait{.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
                               .semaphore = device_.timeline(),
                               .value = after,
                               .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
    VkSemaphoreSubmitInfo signal{.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
                                 .semaphore = timeline_,
                                 .value = submitted_ + 1,
                                 .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
    VkSubmitInfo2 info{.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
                       .waitSemaphoreInfoCount = after ? 1u : 0u,
                       .pWaitSemaphoreInfos = &wait,
                       .commandBufferInfoCount = 1,
                       .pCommandBufferInfos = &buffer,
                       .signalSemaphoreInfoCount = 1,
                       .pSignalSemaphoreInfos = &signal};
    check(vk.vkQueueSubmit2(queue_, 1, &info, VK_NULL_HANDLE), "submitting a copy to " + device_.capabilities().name);
    return commands_.back().value = ++submitted_;
}

void CopyQueue::wait(uint64_t value) {
    if (value == 0) return;
    if (!beside_compute()) return device_.wait(value);
    VkSemaphoreWaitInfo info{
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &timeline_, .pValues = &value};
    check(device_.vk().vkWaitSemaphores(device_.handle(), &info, UINT64_MAX), "waiting for copies");
}

}  // namespace vkqat

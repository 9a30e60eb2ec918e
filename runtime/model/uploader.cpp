#include "runtime/model/uploader.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace vkqat {
namespace {

// A single thread copies some 10 GB/s out of the page cache; the bus takes several times that.
void parallel_copy(std::byte* to, std::span<const std::byte> from) {
    constexpr size_t least = size_t(4) << 20;
    size_t threads = std::clamp<size_t>(from.size() / least, 1, std::min(8u, std::max(1u, std::thread::hardware_concurrency())));
    size_t each = (from.size() + threads - 1) / threads;
    std::vector<std::jthread> workers;
    for (size_t i = 1; i < threads; i++)
        workers.emplace_back([=] {
            size_t begin = std::min(i * each, from.size()), end = std::min(begin + each, from.size());
            std::memcpy(to + begin, from.data() + begin, end - begin);
        });
    std::memcpy(to, from.data(), std::min(each, from.size()));
}

}  // namespace

Uploader::Uploader(Device& device, uint64_t piece_bytes) : device_(device), piece_bytes_(piece_bytes) {
    VkCommandPoolCreateInfo pool{.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                 .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                 .queueFamilyIndex = device.queue_family()};
    check(device.vk().vkCreateCommandPool(device.handle(), &pool, nullptr, &pool_), "creating a command pool");
    for (int i = 0; i < 3; i++) {
        Slot slot{.piece = device.allocate_host(piece_bytes, "pieces of the model on their way")};
        VkCommandBufferAllocateInfo allocate{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                             .commandPool = pool_,
                                             .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                             .commandBufferCount = 1};
        check(device.vk().vkAllocateCommandBuffers(device.handle(), &allocate, &slot.commands), "allocating a command buffer");
        slots_.push_back(std::move(slot));
    }
}

Uploader::~Uploader() {
    try {
        finish();
    } catch (const Error&) {
        // The device is lost: nothing runs any more.
    }
    slots_.clear();
    if (pool_) device_.vk().vkDestroyCommandPool(device_.handle(), pool_, nullptr);
}

void Uploader::finish() {
    for (Slot& slot : slots_) device_.wait(slot.value);
}

Uploader::Slot& Uploader::next_slot() {
    Slot& slot = slots_[next_++ % slots_.size()];
    device_.wait(slot.value);
    slot.executable.reset();
    slot.graph.reset();
    return slot;
}

void Uploader::copy(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) {
    if (offset + bytes.size() > to.bytes())
        fail("upload of {} bytes at {} into a buffer of {}", bytes.size(), offset, to.bytes());
    const auto& vk = device_.vk();
    for (uint64_t done = 0; done < bytes.size();) {
        Slot& slot = next_slot();
        uint64_t n = std::min<uint64_t>(piece_bytes_, bytes.size() - done);
        parallel_copy(static_cast<std::byte*>(slot.piece.mapped()), bytes.subspan(done, n));
        VkCommandBufferBeginInfo begin{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                       .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
        check(vk.vkBeginCommandBuffer(slot.commands, &begin), "recording a copy");
        VkBufferCopy region{0, offset + done, n};
        vk.vkCmdCopyBuffer(slot.commands, slot.piece.handle(), to.handle(), 1, &region);
        VkMemoryBarrier2 barrier{.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2,
                                 .srcStageMask = VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
                                 .srcAccessMask = VK_ACCESS_2_TRANSFER_WRITE_BIT,
                                 .dstStageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
                                 .dstAccessMask = VK_ACCESS_2_MEMORY_READ_BIT | VK_ACCESS_2_MEMORY_WRITE_BIT};
        VkDependencyInfo dependency{
            .sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO, .memoryBarrierCount = 1, .pMemoryBarriers = &barrier};
        vk.vkCmdPipelineBarrier2(slot.commands, &dependency);
        check(vk.vkEndCommandBuffer(slot.commands), "recording a copy");
        slot.value = device_.submit(slot.commands);
        done += n;
    }
}

void Uploader::run(std::span<const std::span<const std::byte>> sources,
                   const std::function<void(Graph&, const Buffer&, std::span<const uint64_t>)>& build) {
    Slot& slot = next_slot();
    std::vector<uint64_t> offsets;
    uint64_t used = 0;
    for (auto source : sources) {
        if (used + source.size() > piece_bytes_)
            fail("a piece of {} bytes was asked to hold {}", piece_bytes_, used + source.size());
        parallel_copy(static_cast<std::byte*>(slot.piece.mapped()) + used, source);
        offsets.push_back(used);
        used = (used + source.size() + 255) / 256 * 256;
    }
    slot.graph = std::make_unique<Graph>(device_);
    build(*slot.graph, slot.piece, offsets);
    slot.executable = std::make_unique<Executable>(*slot.graph, "upload");
    slot.value = slot.executable->replay();
}

}  // namespace vkqat

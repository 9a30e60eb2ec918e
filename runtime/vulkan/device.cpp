#include "runtime/vulkan/device.h"

#include <algorithm>
#include <cstring>

#include "runtime/vulkan/barrier.h"
#include "runtime/vulkan/vma.h"

namespace vkqat {

std::string_view result_name(VkResult result) {
    switch (result) {
        case VK_ERROR_OUT_OF_HOST_MEMORY: return "out of host memory";
        case VK_ERROR_OUT_OF_DEVICE_MEMORY: return "out of device memory";
        case VK_ERROR_INITIALIZATION_FAILED: return "initialization failed";
        case VK_ERROR_DEVICE_LOST: return "device lost";
        case VK_ERROR_LAYER_NOT_PRESENT: return "layer not present";
        case VK_ERROR_EXTENSION_NOT_PRESENT: return "extension not present";
        case VK_ERROR_FEATURE_NOT_PRESENT: return "feature not present";
        case VK_ERROR_INCOMPATIBLE_DRIVER: return "incompatible driver";
        case VK_ERROR_TOO_MANY_OBJECTS: return "too many objects";
        case VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS: return "invalid address";
        default: break;
    }
    static thread_local char text[32];
    *fmt::format_to_n(text, sizeof text - 1, "code {}", int(result)).out = '\0';
    return text;
}

Device::Device(const Instance& instance, const DeviceOptions& options) : instance_(instance.handle()) {
    physical_ = instance.select(options.selector, options.which);
    capabilities_ = query_capabilities(physical_);
    if (!options.cooperative_matrices) capabilities_.cooperative_matrices.clear();
    if (options.subgroup_size) {
        const Capabilities& c = capabilities_;
        bool offered = c.subgroup_size_control && options.subgroup_size >= c.min_subgroup_size &&
                       options.subgroup_size <= c.max_subgroup_size;
        if (!offered && options.subgroup_size != c.subgroup_size)
            fail("{}: subgroup size {} was asked for, but the device offers {} to {}", c.name, options.subgroup_size,
                 c.min_subgroup_size, c.max_subgroup_size);
        capabilities_.subgroup_size = options.subgroup_size;
    }
    create_logical_device(options.compile_only);
    pipelines_ = std::make_unique<Pipelines>(*this, options.pipeline_disk_cache);
}

void Device::create_logical_device(bool compile_only) {
    const Capabilities& c = capabilities_;
    uint32_t count = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(physical_, &count, nullptr);
    std::vector<VkQueueFamilyProperties> families(count);
    vkGetPhysicalDeviceQueueFamilyProperties(physical_, &count, families.data());
    auto usable = [](const VkQueueFamilyProperties& f) { return (f.queueFlags & VK_QUEUE_COMPUTE_BIT) && f.queueCount > 0; };
    auto found = std::find_if(families.begin(), families.end(), usable);
    if (found == families.end()) fail("{}: no queue for compute shaders", c.name);
    queue_family_ = uint32_t(found - families.begin());
    if (found->timestampValidBits == 0) capabilities_.timestamp_period_ns = 0;
    queue_families_ = {queue_family_};
    // A family that only copies has engines of its own; one of them for each direction.
    constexpr VkQueueFlags not_copies = VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT | VK_QUEUE_VIDEO_DECODE_BIT_KHR |
                                        VK_QUEUE_VIDEO_ENCODE_BIT_KHR | VK_QUEUE_OPTICAL_FLOW_BIT_NV;
    auto copies = std::find_if(families.begin(), families.end(), [&](const VkQueueFamilyProperties& f) {
        return (f.queueFlags & VK_QUEUE_TRANSFER_BIT) && !(f.queueFlags & not_copies) && f.queueCount > 0;
    });
    if (copies != families.end()) {
        queue_families_.push_back(uint32_t(copies - families.begin()));
        copy_queues_.resize(std::min(copies->queueCount, 2u));
    }

    const float priorities[] = {1, 1};
    std::vector<VkDeviceQueueCreateInfo> queues;
    for (uint32_t family : queue_families_)
        queues.push_back({.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                          .queueFamilyIndex = family,
                          .queueCount = family == queue_family_ ? 1 : uint32_t(copy_queues_.size()),
                          .pQueuePriorities = priorities});
    std::vector<const char*> extensions;
    VkPhysicalDeviceVulkan13Features f13{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
                                         .subgroupSizeControl = c.subgroup_size_control,
                                         .computeFullSubgroups = c.full_subgroups,
                                         .synchronization2 = VK_TRUE,
                                         .shaderIntegerDotProduct = VK_TRUE,
                                         .maintenance4 = VK_TRUE};
    VkPhysicalDeviceVulkan12Features f12{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                                         .pNext = &f13,
                                         .storageBuffer8BitAccess = VK_TRUE,
                                         .shaderFloat16 = VK_TRUE,
                                         .shaderInt8 = VK_TRUE,
                                         .scalarBlockLayout = VK_TRUE,
                                         .timelineSemaphore = VK_TRUE,
                                         .bufferDeviceAddress = VK_TRUE,
                                         .vulkanMemoryModel = c.memory_model,
                                         // With the model on, the scope that atomics on buffers use is a feature of its own.
                                         .vulkanMemoryModelDeviceScope = c.memory_model};
    VkPhysicalDeviceVulkan11Features f11{
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &f12, .storageBuffer16BitAccess = VK_TRUE};
    VkPhysicalDeviceFeatures2 features{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f11};
    features.features.shaderInt64 = VK_TRUE;
    features.features.shaderInt16 = VK_TRUE;

    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat{
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR, .cooperativeMatrix = VK_TRUE};
    VkPhysicalDeviceShaderBfloat16FeaturesKHR bf16{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR,
                                                   .shaderBFloat16Type = VK_TRUE,
                                                   .shaderBFloat16CooperativeMatrix = VK_TRUE};
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executable{
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
        .pipelineExecutableInfo = VK_TRUE};
    void** next = &f13.pNext;
    if (!c.cooperative_matrices.empty()) {
        extensions.push_back(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
        *next = &coopmat, next = &coopmat.pNext;
    }
    bool bf16_matrices =
        std::any_of(c.cooperative_matrices.begin(), c.cooperative_matrices.end(), [](auto& s) { return s.input == DType::bf16; });
    if (c.bfloat16) {
        bf16.shaderBFloat16CooperativeMatrix = bf16_matrices;
        extensions.push_back(VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME);
        *next = &bf16, next = &bf16.pNext;
    }
    if (c.pipeline_executable_info) {
        extensions.push_back(VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);
        *next = &executable, next = &executable.pNext;
    }
    if (c.memory_budget) extensions.push_back(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    if (c.host_memory_alignment) extensions.push_back(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);

    VkDeviceCreateInfo info{.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                            .pNext = &features,
                            .queueCreateInfoCount = uint32_t(queues.size()),
                            .pQueueCreateInfos = queues.data(),
                            .enabledExtensionCount = uint32_t(extensions.size()),
                            .ppEnabledExtensionNames = extensions.data()};
    check(vkCreateDevice(physical_, &info, nullptr, &device_), "creating the device " + c.name);
    volkLoadDeviceTable(&vk_, device_);
    vk_.vkGetDeviceQueue(device_, queue_family_, 0, &queue_);
    for (uint32_t i = 0; i < copy_queues_.size(); i++) vk_.vkGetDeviceQueue(device_, queue_families_[1], i, &copy_queues_[i]);

    VmaVulkanFunctions functions{};
    functions.vkGetInstanceProcAddr = vkGetInstanceProcAddr;
    functions.vkGetDeviceProcAddr = vkGetDeviceProcAddr;
    functions.vkGetPhysicalDeviceProperties = vkGetPhysicalDeviceProperties;
    functions.vkGetPhysicalDeviceMemoryProperties = vkGetPhysicalDeviceMemoryProperties;
    functions.vkAllocateMemory = vk_.vkAllocateMemory;
    functions.vkFreeMemory = vk_.vkFreeMemory;
    functions.vkMapMemory = vk_.vkMapMemory;
    functions.vkUnmapMemory = vk_.vkUnmapMemory;
    functions.vkFlushMappedMemoryRanges = vk_.vkFlushMappedMemoryRanges;
    functions.vkInvalidateMappedMemoryRanges = vk_.vkInvalidateMappedMemoryRanges;
    functions.vkBindBufferMemory = vk_.vkBindBufferMemory;
    functions.vkBindImageMemory = vk_.vkBindImageMemory;
    functions.vkGetBufferMemoryRequirements = vk_.vkGetBufferMemoryRequirements;
    functions.vkGetImageMemoryRequirements = vk_.vkGetImageMemoryRequirements;
    functions.vkCreateBuffer = vk_.vkCreateBuffer;
    functions.vkDestroyBuffer = vk_.vkDestroyBuffer;
    functions.vkCreateImage = vk_.vkCreateImage;
    functions.vkDestroyImage = vk_.vkDestroyImage;
    functions.vkCmdCopyBuffer = vk_.vkCmdCopyBuffer;
    functions.vkGetBufferMemoryRequirements2KHR = vk_.vkGetBufferMemoryRequirements2;
    functions.vkGetImageMemoryRequirements2KHR = vk_.vkGetImageMemoryRequirements2;
    functions.vkBindBufferMemory2KHR = vk_.vkBindBufferMemory2;
    functions.vkBindImageMemory2KHR = vk_.vkBindImageMemory2;
    functions.vkGetPhysicalDeviceMemoryProperties2KHR = vkGetPhysicalDeviceMemoryProperties2;
    functions.vkGetDeviceBufferMemoryRequirements = vk_.vkGetDeviceBufferMemoryRequirements;
    functions.vkGetDeviceImageMemoryRequirements = vk_.vkGetDeviceImageMemoryRequirements;
    VmaAllocatorCreateInfo allocator{};
    allocator.flags = VMA_ALLOCATOR_CREATE_BUFFER_DEVICE_ADDRESS_BIT;
    if (c.memory_budget) allocator.flags |= VMA_ALLOCATOR_CREATE_EXT_MEMORY_BUDGET_BIT;
    allocator.physicalDevice = physical_;
    allocator.device = device_;
    allocator.instance = instance_;
    allocator.vulkanApiVersion = VK_API_VERSION_1_3;
    allocator.pVulkanFunctions = &functions;
    check(vmaCreateAllocator(&allocator, &allocator_), "creating the memory allocator");

    if (compile_only) return;

    VkSemaphoreTypeCreateInfo type{.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                   .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VkSemaphoreCreateInfo semaphore{.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    check(vk_.vkCreateSemaphore(device_, &semaphore, nullptr, &timeline_), "creating the timeline semaphore");
    VkCommandPoolCreateInfo pool{.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                 .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                 .queueFamilyIndex = queue_family_};
    check(vk_.vkCreateCommandPool(device_, &pool, nullptr, &transfer_pool_), "creating a command pool");
    VkCommandBufferAllocateInfo commands{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                         .commandPool = transfer_pool_,
                                         .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                         .commandBufferCount = 1};
    check(vk_.vkAllocateCommandBuffers(device_, &commands, &transfer_commands_), "allocating a command buffer");
}

Device::~Device() {
    if (!device_) return;
    if (submitted_ > 0) vk_.vkDeviceWaitIdle(device_);
    pipelines_.reset();
    staging_.reset();
    if (transfer_pool_) vk_.vkDestroyCommandPool(device_, transfer_pool_, nullptr);
    vk_.vkDestroySemaphore(device_, timeline_, nullptr);
    vmaDestroyAllocator(allocator_);
    vk_.vkDestroyDevice(device_, nullptr);
}

uint64_t Device::free_memory() const {
    VmaBudget budgets[VK_MAX_MEMORY_HEAPS];
    vmaGetHeapBudgets(allocator_, budgets);
    VkPhysicalDeviceMemoryProperties memory;
    vkGetPhysicalDeviceMemoryProperties(physical_, &memory);
    uint64_t free = 0;
    for (uint32_t i = 0; i < memory.memoryHeapCount; i++)
        if ((memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && budgets[i].budget > budgets[i].usage)
            free = std::max(free, budgets[i].budget - budgets[i].usage);
    return free;
}

uint64_t Device::submit(VkCommandBuffer commands, uint32_t times) {
    if (!timeline_) fail("{} was opened to compile shaders only: nothing can run on it", capabilities_.name);
    const std::vector<VkCommandBufferSubmitInfo> buffers(
        times, {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO, .commandBuffer = commands});
    VkSemaphoreSubmitInfo signal{.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
                                 .semaphore = timeline_,
                                 .value = submitted_ + 1,
                                 .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
    VkSubmitInfo2 info{.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
                       .commandBufferInfoCount = times,
                       .pCommandBufferInfos = buffers.data(),
                       .signalSemaphoreInfoCount = 1,
                       .pSignalSemaphoreInfos = &signal};
    check(vk_.vkQueueSubmit2(queue_, 1, &info, VK_NULL_HANDLE), "submitting work to " + capabilities_.name);
    return ++submitted_;
}

void Device::wait(uint64_t value) {
    if (value == 0) return;
    VkSemaphoreWaitInfo info{
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &timeline_, .pValues = &value};
    check(vk_.vkWaitSemaphores(device_, &info, UINT64_MAX), "waiting for " + capabilities_.name);
}

uint64_t Device::completed() const {
    uint64_t value = 0;
    if (!timeline_) return value;
    check(vk_.vkGetSemaphoreCounterValue(device_, timeline_, &value), "asking how far " + capabilities_.name + " is");
    return value;
}

void Device::run_transfer(const Buffer& staging, const Buffer& other, uint64_t offset, uint64_t bytes, bool to_device) {
    VkCommandBufferBeginInfo begin{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                   .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    check(vk_.vkBeginCommandBuffer(transfer_commands_, &begin), "recording a copy");
    full_barrier(vk_, transfer_commands_);
    VkBufferCopy region{to_device ? 0 : offset, to_device ? offset : 0, bytes};
    vk_.vkCmdCopyBuffer(transfer_commands_, to_device ? staging.handle() : other.handle(),
                        to_device ? other.handle() : staging.handle(), 1, &region);
    full_barrier(vk_, transfer_commands_);
    check(vk_.vkEndCommandBuffer(transfer_commands_), "recording a copy");
    wait(submit(transfer_commands_));
}

static constexpr uint64_t staging_bytes = uint64_t(16) << 20;

void Device::upload(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) {
    if (offset + bytes.size() > to.bytes())
        fail("upload of {} bytes at {} into a buffer of {}", bytes.size(), offset, to.bytes());
    if (to.mapped()) {
        wait_idle();
        std::memcpy(static_cast<std::byte*>(to.mapped()) + offset, bytes.data(), bytes.size());
        return;
    }
    if (!staging_) staging_ = std::make_unique<Buffer>(allocate_host(staging_bytes, "copies to and from the device"));
    for (uint64_t done = 0; done < bytes.size();) {
        uint64_t n = std::min<uint64_t>(staging_bytes, bytes.size() - done);
        std::memcpy(staging_->mapped(), bytes.data() + done, n);
        run_transfer(*staging_, to, offset + done, n, true);
        done += n;
    }
}

void Device::download(const Buffer& from, uint64_t offset, std::span<std::byte> bytes) {
    if (offset + bytes.size() > from.bytes())
        fail("download of {} bytes at {} from a buffer of {}", bytes.size(), offset, from.bytes());
    wait_idle();
    if (from.mapped()) {
        std::memcpy(bytes.data(), static_cast<const std::byte*>(from.mapped()) + offset, bytes.size());
        return;
    }
    if (!staging_) staging_ = std::make_unique<Buffer>(allocate_host(staging_bytes, "copies to and from the device"));
    for (uint64_t done = 0; done < bytes.size();) {
        uint64_t n = std::min<uint64_t>(staging_bytes, bytes.size() - done);
        run_transfer(*staging_, from, offset + done, n, false);
        std::memcpy(bytes.data() + done, staging_->mapped(), n);
        done += n;
    }
}

}  // namespace vkqat

#include "app/ui/renderer.h"

#include "app/ui/image_transition.h"

#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>
#include <imgui.h>
#include <imgui_impl_vulkan.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/vulkan/vulkan.h"

namespace vkqat {
namespace {

// Functions of the instance, not volk's globals: those belong to the instances that run models.
template <class Function>
Function load(PFN_vkGetInstanceProcAddr proc, VkInstance instance, const char* name) {
    auto function = reinterpret_cast<Function>(proc(instance, name));
    if (!function) fail("the Vulkan loader has no {}", name);
    return function;
}
#define VKQAT_INSTANCE(name) load<PFN_##name>(instance_proc_, instance_, #name)

struct Lost {};

void must(VkResult result, const char* what) {
    if (result == VK_ERROR_DEVICE_LOST) throw Lost{};
    check(result, what);
}

}  // namespace

Renderer::Renderer(GLFWwindow* window) : window_(window) {
    create_instance();
    create_device();
    create_swapchain();
    start_backend();
}

Renderer::~Renderer() {
    vk_.vkDeviceWaitIdle(device_);
    textures_.end();
    ImGui_ImplVulkan_Shutdown();
    destroy_swapchain();
    destroy_device();
    VKQAT_INSTANCE(vkDestroySurfaceKHR)(instance_, surface_, nullptr);
    VKQAT_INSTANCE(vkDestroyInstance)(instance_, nullptr);
}

void Renderer::create_instance() {
    if (volkInitialize() != VK_SUCCESS || !glfwVulkanSupported())
        fail(
            "no Vulkan here: the window is drawn with Vulkan, which needs a graphics driver or Mesa's CPU driver "
            "(Debian: mesa-vulkan-drivers)");
    instance_proc_ = vkGetInstanceProcAddr;
    uint32_t count = 0;
    const char** extensions = glfwGetRequiredInstanceExtensions(&count);
    if (!extensions) fail("this Vulkan cannot present to a window");
    const VkApplicationInfo application{
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .pApplicationName = "vkqat-app", .apiVersion = VK_API_VERSION_1_3};
    const VkInstanceCreateInfo info{.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                    .pApplicationInfo = &application,
                                    .enabledExtensionCount = count,
                                    .ppEnabledExtensionNames = extensions};
    check(load<PFN_vkCreateInstance>(instance_proc_, nullptr, "vkCreateInstance")(&info, nullptr, &instance_),
          "creating the window's instance");
    check(glfwCreateWindowSurface(instance_, window_, nullptr, &surface_), "creating the window's surface");
}

void Renderer::create_device() {
    uint32_t count = 0;
    const auto enumerate = VKQAT_INSTANCE(vkEnumeratePhysicalDevices);
    check(enumerate(instance_, &count, nullptr), "listing devices");
    std::vector<VkPhysicalDevice> devices(count);
    check(enumerate(instance_, &count, devices.data()), "listing devices");
    const auto properties_of = VKQAT_INSTANCE(vkGetPhysicalDeviceProperties);
    const auto families_of = VKQAT_INSTANCE(vkGetPhysicalDeviceQueueFamilyProperties);
    const auto presents = VKQAT_INSTANCE(vkGetPhysicalDeviceSurfaceSupportKHR);
    int best = -1;
    for (VkPhysicalDevice physical : devices) {
        VkPhysicalDeviceProperties properties;
        properties_of(physical, &properties);
        if (properties.apiVersion < VK_API_VERSION_1_3) continue;
        // An integrated GPU draws a window best: it leaves the discrete one to the models. A CPU only where there is no other.
        const int rank = properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU ? 3
                         : properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU ? 2
                         : properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU          ? 0
                                                                                         : 1;
        uint32_t families = 0;
        families_of(physical, &families, nullptr);
        std::vector<VkQueueFamilyProperties> list(families);
        families_of(physical, &families, list.data());
        for (uint32_t family = 0; family < families; family++) {
            VkBool32 can_present = VK_FALSE;
            presents(physical, family, surface_, &can_present);
            if (!can_present || !(list[family].queueFlags & VK_QUEUE_GRAPHICS_BIT) || rank <= best) continue;
            best = rank;
            physical_ = physical;
            family_ = family;
            device_name_ = properties.deviceName;
            break;
        }
    }
    if (best < 0) fail("no Vulkan device can present to this window");

    const float priority = 1;
    const VkDeviceQueueCreateInfo queue{.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                        .queueFamilyIndex = family_,
                                        .queueCount = 1,
                                        .pQueuePriorities = &priority};
    VkPhysicalDeviceVulkan13Features features{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
    features.dynamicRendering = VK_TRUE;
    features.synchronization2 = VK_TRUE;
    const char* extensions[] = {VK_KHR_SWAPCHAIN_EXTENSION_NAME, VK_KHR_DYNAMIC_RENDERING_EXTENSION_NAME};
    const VkDeviceCreateInfo info{.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                  .pNext = &features,
                                  .queueCreateInfoCount = 1,
                                  .pQueueCreateInfos = &queue,
                                  .enabledExtensionCount = 2,
                                  .ppEnabledExtensionNames = extensions};
    check(VKQAT_INSTANCE(vkCreateDevice)(physical_, &info, nullptr, &device_), "creating the window's device");
    // volk's table needs its global vkGetDeviceProcAddr.
    vkGetDeviceProcAddr = VKQAT_INSTANCE(vkGetDeviceProcAddr);
    volkLoadDeviceTable(&vk_, device_);
    vk_.vkGetDeviceQueue(device_, family_, 0, &queue_);
    for (Frame& frame : frames_) {
        const VkCommandPoolCreateInfo pool{.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = family_};
        check(vk_.vkCreateCommandPool(device_, &pool, nullptr, &frame.pool), "creating a command pool");
        const VkCommandBufferAllocateInfo commands{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                   .commandPool = frame.pool,
                                                   .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                   .commandBufferCount = 1};
        check(vk_.vkAllocateCommandBuffers(device_, &commands, &frame.commands), "allocating a command buffer");
        const VkFenceCreateInfo fence{.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO, .flags = VK_FENCE_CREATE_SIGNALED_BIT};
        check(vk_.vkCreateFence(device_, &fence, nullptr, &frame.done), "creating a fence");
        const VkSemaphoreCreateInfo semaphore{.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO};
        check(vk_.vkCreateSemaphore(device_, &semaphore, nullptr, &frame.acquired), "creating a semaphore");
    }
}

void Renderer::destroy_device() {
    drop_copy();
    for (Frame& frame : frames_) {
        vk_.vkDestroyCommandPool(device_, frame.pool, nullptr);
        vk_.vkDestroyFence(device_, frame.done, nullptr);
        vk_.vkDestroySemaphore(device_, frame.acquired, nullptr);
    }
    vk_.vkDestroyDevice(device_, nullptr);
    device_ = VK_NULL_HANDLE;
}

void Renderer::create_swapchain() {
    stale_ = false;
    VkSurfaceCapabilitiesKHR capabilities;
    check(VKQAT_INSTANCE(vkGetPhysicalDeviceSurfaceCapabilitiesKHR)(physical_, surface_, &capabilities),
          "asking about the surface");
    extent_ = capabilities.currentExtent;
    if (extent_.width == UINT32_MAX) {
        int width = 0, height = 0;
        glfwGetFramebufferSize(window_, &width, &height);
        extent_ = {uint32_t(width), uint32_t(height)};
    }
    if (extent_.width == 0 || extent_.height == 0) return;  // minimized
    uint32_t count = 0;
    const auto formats_of = VKQAT_INSTANCE(vkGetPhysicalDeviceSurfaceFormatsKHR);
    check(formats_of(physical_, surface_, &count, nullptr), "asking about the surface");
    std::vector<VkSurfaceFormatKHR> formats(count);
    check(formats_of(physical_, surface_, &count, formats.data()), "asking about the surface");
    if (formats.empty()) fail("the surface offers no format");
    format_ = formats.front();
    for (const VkSurfaceFormatKHR& format : formats)
        if (format.format == VK_FORMAT_B8G8R8A8_UNORM || format.format == VK_FORMAT_R8G8B8A8_UNORM) {
            format_ = format;
            break;
        }
    can_copy_ = capabilities.supportedUsageFlags & VK_IMAGE_USAGE_TRANSFER_SRC_BIT;
    const uint32_t most = capabilities.maxImageCount ? capabilities.maxImageCount : UINT32_MAX;
    const VkSwapchainKHR old = swapchain_;
    const VkSwapchainCreateInfoKHR info{
        .sType = VK_STRUCTURE_TYPE_SWAPCHAIN_CREATE_INFO_KHR,
        .surface = surface_,
        .minImageCount = std::min(std::max(capabilities.minImageCount, 2u) + 1, most),
        .imageFormat = format_.format,
        .imageColorSpace = format_.colorSpace,
        .imageExtent = extent_,
        .imageArrayLayers = 1,
        .imageUsage = VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VkImageUsageFlags(can_copy_ ? VK_IMAGE_USAGE_TRANSFER_SRC_BIT : 0),
        .preTransform = capabilities.currentTransform,
        .compositeAlpha = (capabilities.supportedCompositeAlpha & VK_COMPOSITE_ALPHA_OPAQUE_BIT_KHR)
                              ? VK_COMPOSITE_ALPHA_OPAQUE_BIT_KHR
                              : VK_COMPOSITE_ALPHA_INHERIT_BIT_KHR,
        .presentMode = VK_PRESENT_MODE_FIFO_KHR,
        .clipped = VK_TRUE,
        .oldSwapchain = old};
    must(vk_.vkCreateSwapchainKHR(device_, &info, nullptr, &swapchain_), "creating the swapchain");
    if (old) vk_.vkDestroySwapchainKHR(device_, old, nullptr);
    check(vk_.vkGetSwapchainImagesKHR(device_, swapchain_, &count, nullptr), "listing the swapchain's images");
    std::vector<VkImage> images(count);
    check(vk_.vkGetSwapchainImagesKHR(device_, swapchain_, &count, images.data()), "listing the swapchain's images");
    for (VkImage image : images) {
        Image made{image, VK_NULL_HANDLE, VK_NULL_HANDLE};
        const VkImageViewCreateInfo view{.sType = VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO,
                                         .image = image,
                                         .viewType = VK_IMAGE_VIEW_TYPE_2D,
                                         .format = format_.format,
                                         .subresourceRange = whole_image};
        check(vk_.vkCreateImageView(device_, &view, nullptr, &made.view), "creating an image view");
        const VkSemaphoreCreateInfo semaphore{.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO};
        check(vk_.vkCreateSemaphore(device_, &semaphore, nullptr, &made.drawn), "creating a semaphore");
        images_.push_back(made);
    }
}

void Renderer::destroy_swapchain() {
    for (Image& image : images_) {
        vk_.vkDestroyImageView(device_, image.view, nullptr);
        vk_.vkDestroySemaphore(device_, image.drawn, nullptr);
    }
    images_.clear();
    vk_.vkDestroySwapchainKHR(device_, swapchain_, nullptr);
    swapchain_ = VK_NULL_HANDLE;
}

void Renderer::start_backend() {
    if (!ImGui_ImplVulkan_LoadFunctions(
            VK_API_VERSION_1_3,
            [](const char* name, void* self) {
                const auto* r = static_cast<Renderer*>(self);
                return r->instance_proc_(r->instance_, name);
            },
            this))
        fail("the Vulkan loader lacks functions that the window needs");
    ImGui_ImplVulkan_InitInfo info{};
    info.ApiVersion = VK_API_VERSION_1_3;
    info.Instance = instance_;
    info.PhysicalDevice = physical_;
    info.Device = device_;
    info.QueueFamily = family_;
    info.Queue = queue_;
    info.DescriptorPoolSize = 64;
    info.MinImageCount = 2;
    info.ImageCount = std::max<uint32_t>(2, uint32_t(images_.size()));
    info.UseDynamicRendering = true;
    info.PipelineRenderingCreateInfo = {.sType = VK_STRUCTURE_TYPE_PIPELINE_RENDERING_CREATE_INFO_KHR,
                                        .colorAttachmentCount = 1,
                                        .pColorAttachmentFormats = &format_.format};
    if (!ImGui_ImplVulkan_Init(&info)) fail("the window's drawing could not be set up");
    VkPhysicalDeviceMemoryProperties memory;
    VKQAT_INSTANCE(vkGetPhysicalDeviceMemoryProperties)(physical_, &memory);
    textures_.start(vk_, device_, memory, frames_.size());
}

void Renderer::recover() {
    if (++losses_ > 3) fail("the device {} that draws the window was lost {} times", device_name_, losses_);
    textures_.end();
    ImGui_ImplVulkan_Shutdown();
    destroy_swapchain();
    destroy_device();
    create_device();
    create_swapchain();
    start_backend();
}

void Renderer::new_frame() { ImGui_ImplVulkan_NewFrame(); }

void Renderer::request_picture(int x, int y, int width, int height) {
    const int right = std::clamp(x + width, 0, int(extent_.width)), low = std::clamp(y + height, 0, int(extent_.height));
    x = std::clamp(x, 0, right), y = std::clamp(y, 0, low);
    if (can_copy_ && right > x && low > y) wanted_ = VkRect2D{{x, y}, {uint32_t(right - x), uint32_t(low - y)}};
}

std::optional<Picture> Renderer::picture() {
    if (copy_ && vk_.vkGetFenceStatus(device_, copy_->done) == VK_SUCCESS) finish_copy();
    return std::exchange(finished_, std::nullopt);
}

Renderer::Copy Renderer::start_copy(VkFence done) {
    Copy copy{VK_NULL_HANDLE, VK_NULL_HANDLE, *wanted_, done};
    const VkBufferCreateInfo info{.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                  .size = uint64_t(copy.region.extent.width) * copy.region.extent.height * 4,
                                  .usage = VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    check(vk_.vkCreateBuffer(device_, &info, nullptr, &copy.buffer), "creating a buffer");
    VkMemoryRequirements needs;
    vk_.vkGetBufferMemoryRequirements(device_, copy.buffer, &needs);
    VkPhysicalDeviceMemoryProperties types;
    VKQAT_INSTANCE(vkGetPhysicalDeviceMemoryProperties)(physical_, &types);
    const VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    uint32_t type = 0;
    while (type < types.memoryTypeCount &&
           !((needs.memoryTypeBits >> type & 1) && (types.memoryTypes[type].propertyFlags & wanted) == wanted))
        type++;
    const VkMemoryAllocateInfo allocate{
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = needs.size, .memoryTypeIndex = type};
    check(vk_.vkAllocateMemory(device_, &allocate, nullptr, &copy.memory), "memory for a picture");
    check(vk_.vkBindBufferMemory(device_, copy.buffer, copy.memory, 0), "memory for a picture");
    return copy;
}

bool Renderer::draw(ImDrawData* data, const float (&background)[3]) try {
    if (stale_ || images_.empty()) {
        must(vk_.vkDeviceWaitIdle(device_), "waiting for the device");
        for (Image& image : images_) {
            vk_.vkDestroyImageView(device_, image.view, nullptr);
            vk_.vkDestroySemaphore(device_, image.drawn, nullptr);
        }
        images_.clear();
        create_swapchain();
        if (images_.empty()) return true;
    }
    if (watch) watch->pause();
    const size_t number = frame_++ % frames_.size();
    Frame& frame = frames_[number];
    must(vk_.vkWaitForFences(device_, 1, &frame.done, VK_TRUE, UINT64_MAX), "waiting for a frame");
    uint32_t index = 0;
    VkResult result = vk_.vkAcquireNextImageKHR(device_, swapchain_, UINT64_MAX, frame.acquired, VK_NULL_HANDLE, &index);
    if (watch) watch->resume();
    if (copy_ && copy_->done == frame.done) finish_copy();  // before its fence is used again
    if (result == VK_ERROR_OUT_OF_DATE_KHR) {
        stale_ = true;
        return false;
    }
    stale_ = result == VK_SUBOPTIMAL_KHR;
    must(result, "asking for an image");
    must(vk_.vkResetFences(device_, 1, &frame.done), "resetting a fence");
    must(vk_.vkResetCommandPool(device_, frame.pool, 0), "resetting a command pool");

    VkBuffer copy = VK_NULL_HANDLE;
    if (wanted_ && !copy_) {
        copy_ = start_copy(frame.done);
        copy = copy_->buffer;
        wanted_.reset();
    }
    if (watch) watch->part("recording");
    record(number, images_[index], data, background, copy);
    const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_COLOR_ATTACHMENT_OUTPUT_BIT;
    const VkSubmitInfo submit{.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                              .waitSemaphoreCount = 1,
                              .pWaitSemaphores = &frame.acquired,
                              .pWaitDstStageMask = &stage,
                              .commandBufferCount = 1,
                              .pCommandBuffers = &frame.commands,
                              .signalSemaphoreCount = 1,
                              .pSignalSemaphores = &images_[index].drawn};
    submissions_++;
    if (watch) watch->hand_over();
    must(vk_.vkQueueSubmit(queue_, 1, &submit, frame.done), "drawing the window");
    if (watch) watch->pause();
    const VkPresentInfoKHR present{.sType = VK_STRUCTURE_TYPE_PRESENT_INFO_KHR,
                                   .waitSemaphoreCount = 1,
                                   .pWaitSemaphores = &images_[index].drawn,
                                   .swapchainCount = 1,
                                   .pSwapchains = &swapchain_,
                                   .pImageIndices = &index};
    result = vk_.vkQueuePresentKHR(queue_, &present);
    if (result == VK_ERROR_OUT_OF_DATE_KHR || result == VK_SUBOPTIMAL_KHR)
        stale_ = true;
    else
        must(result, "presenting the window");
    if (watch) watch->part("afterwards");
    return !stale_;
} catch (const Lost&) {
    recover();
    return false;
}

void Renderer::record(size_t frame, Image& image, ImDrawData* data, const float (&background)[3], VkBuffer copy) {
    VkCommandBuffer commands = frames_[frame].commands;
    const VkCommandBufferBeginInfo begin{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                         .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    check(vk_.vkBeginCommandBuffer(commands, &begin), "recording the window");
    if (data->Textures) textures_.record(commands, frame, *data->Textures);
    auto become = [&](VkImageLayout from, VkImageLayout to) { transition(vk_, commands, image.image, from, to); };
    become(VK_IMAGE_LAYOUT_UNDEFINED, VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL);
    VkRenderingAttachmentInfo color{.sType = VK_STRUCTURE_TYPE_RENDERING_ATTACHMENT_INFO,
                                    .imageView = image.view,
                                    .imageLayout = VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL,
                                    .loadOp = VK_ATTACHMENT_LOAD_OP_CLEAR,
                                    .storeOp = VK_ATTACHMENT_STORE_OP_STORE};
    color.clearValue.color = {{background[0], background[1], background[2], 1}};
    const VkRenderingInfo rendering{.sType = VK_STRUCTURE_TYPE_RENDERING_INFO,
                                    .renderArea = {{0, 0}, extent_},
                                    .layerCount = 1,
                                    .colorAttachmentCount = 1,
                                    .pColorAttachments = &color};
    vk_.vkCmdBeginRendering(commands, &rendering);
    ImGui_ImplVulkan_RenderDrawData(data, commands);
    vk_.vkCmdEndRendering(commands);
    if (copy) {
        become(VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL);
        const VkRect2D& r = copy_->region;
        const VkBufferImageCopy region{.imageSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1},
                                       .imageOffset = {r.offset.x, r.offset.y, 0},
                                       .imageExtent = {r.extent.width, r.extent.height, 1}};
        vk_.vkCmdCopyImageToBuffer(commands, image.image, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, copy, 1, &region);
        become(VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, VK_IMAGE_LAYOUT_PRESENT_SRC_KHR);
    } else {
        become(VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL, VK_IMAGE_LAYOUT_PRESENT_SRC_KHR);
    }
    check(vk_.vkEndCommandBuffer(commands), "recording the window");
}

void Renderer::finish_copy() {
    Picture picture{copy_->region.extent.width, copy_->region.extent.height, {}};
    picture.rgb.resize(size_t(picture.width) * picture.height * 3);
    void* mapped = nullptr;
    check(vk_.vkMapMemory(device_, copy_->memory, 0, VK_WHOLE_SIZE, 0, &mapped), "reading a picture");
    const auto* pixels = static_cast<const uint8_t*>(mapped);
    const bool bgr = format_.format == VK_FORMAT_B8G8R8A8_UNORM || format_.format == VK_FORMAT_B8G8R8A8_SRGB;
    for (size_t i = 0; i < picture.rgb.size() / 3; i++)
        for (size_t c = 0; c < 3; c++) picture.rgb[i * 3 + c] = pixels[i * 4 + (bgr ? 2 - c : c)];
    drop_copy();
    finished_ = std::move(picture);
}

void Renderer::drop_copy() {
    if (!copy_) return;
    vk_.vkDestroyBuffer(device_, copy_->buffer, nullptr);
    vk_.vkFreeMemory(device_, copy_->memory, nullptr);
    copy_.reset();
}

}  // namespace vkqat

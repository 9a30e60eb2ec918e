// The interface's own Vulkan: an instance with a surface, a device that only draws, a swapchain. It shares nothing with the
// devices that run models, so that neither waits for the other, and a device that is lost takes only its own side with it.
#pragma once

#include <volk.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/ui/frame_watch.h"
#include "app/ui/textures.h"

struct GLFWwindow;
struct ImDrawData;
struct ImVec4;

namespace vkqat {

struct Picture {
    uint32_t width = 0, height = 0;
    std::vector<uint8_t> rgb;  // rows from the top, 3 bytes a pixel
};

class Renderer {
public:
    explicit Renderer(GLFWwindow* window);  // Error without a device that can present to the window
    ~Renderer();
    Renderer(const Renderer&) = delete;
    Renderer& operator=(const Renderer&) = delete;

    void new_frame();
    // Draws and presents. Where the surface has changed nothing is drawn, and false comes back: draw again.
    bool draw(ImDrawData* data, const float (&background)[3]);
    // The next frame that is drawn is also copied, that part of it; picture() has it some frames later, once. Nobody waits for
    // it.
    void request_picture(int x, int y, int width, int height);
    std::optional<Picture> picture();
    bool can_copy() const { return can_copy_; }  // whether the surface allows it
    const std::string& device_name() const { return device_name_; }
    uint64_t submissions() const { return submissions_; }  // to the device that draws, since the start
    int losses() const { return losses_; }                 // of that device
    FrameWatch* watch = nullptr;                           // is paused while an image is waited for and handed over

private:
    struct Frame {
        VkCommandPool pool;
        VkCommandBuffer commands;
        VkFence done;
        VkSemaphore acquired;
    };
    struct Image {
        VkImage image;
        VkImageView view;
        VkSemaphore drawn;
    };
    void create_instance();
    void create_device();
    void create_swapchain();
    void destroy_swapchain();
    void destroy_device();
    void start_backend();
    void recover();  // makes the device anew after it was lost
    void record(size_t frame, Image& image, ImDrawData* data, const float (&background)[3], VkBuffer copy);
    struct Copy {
        VkBuffer buffer;
        VkDeviceMemory memory;
        VkRect2D region;
        VkFence done;
    };
    Copy start_copy(VkFence done);
    void finish_copy();
    void drop_copy();

    GLFWwindow* window_;
    PFN_vkGetInstanceProcAddr instance_proc_ = nullptr;
    VkInstance instance_ = VK_NULL_HANDLE;
    VkSurfaceKHR surface_ = VK_NULL_HANDLE;
    VkPhysicalDevice physical_ = VK_NULL_HANDLE;
    VkDevice device_ = VK_NULL_HANDLE;
    VolkDeviceTable vk_ = {};
    VkQueue queue_ = VK_NULL_HANDLE;
    uint32_t family_ = 0;
    VkSwapchainKHR swapchain_ = VK_NULL_HANDLE;
    VkSurfaceFormatKHR format_ = {};
    VkExtent2D extent_ = {};
    bool can_copy_ = false, stale_ = false;
    std::optional<VkRect2D> wanted_;
    std::optional<Copy> copy_;
    std::optional<Picture> finished_;
    std::vector<Image> images_;
    Textures textures_;
    std::array<Frame, 2> frames_ = {};
    size_t frame_ = 0;
    uint64_t submissions_ = 0;
    int losses_ = 0;
    std::string device_name_;
};

}  // namespace vkqat

// Dear ImGui's textures (its glyphs) on the device. Its own backend waits for the whole queue behind every new glyph; here their
// copies are recorded in front of the frame that needs them, and nobody waits.
#pragma once

#include <imgui.h>
#include <volk.h>

#include <cstddef>
#include <map>
#include <vector>

namespace vkqat {

class Textures {
public:
    // The copies of `frames` frames may be on their way.
    void start(const VolkDeviceTable& vk, VkDevice device, const VkPhysicalDeviceMemoryProperties& memory, size_t frames);
    // Frees all; the device has nothing to do any more, and Dear ImGui's backend is still there. The next start makes them anew.
    void end();
    // Records what the textures in the list want, outside of a rendering. What an earlier frame of this number needed is freed:
    // the device is through with it.
    void record(VkCommandBuffer commands, size_t frame, ImVector<ImTextureData*>& list);

private:
    struct Texture {
        VkImage image = VK_NULL_HANDLE;
        VkImageView view = VK_NULL_HANDLE;
        VkDeviceMemory memory = VK_NULL_HANDLE;
        VkDescriptorSet set = VK_NULL_HANDLE;
    };
    struct Staging {
        VkBuffer buffer = VK_NULL_HANDLE;
        VkDeviceMemory memory = VK_NULL_HANDLE;
        std::byte* mapped = nullptr;
    };
    struct Frame {
        std::vector<Staging> staging;
        std::vector<Texture> unused;
    };
    Texture create(const ImTextureData& data);
    void free(const Texture& texture);
    Staging stage(VkDeviceSize size);
    void free(const Staging& staging);
    VkDeviceMemory allocate(const VkMemoryRequirements& needs, VkMemoryPropertyFlags wanted);

    VolkDeviceTable vk_{};
    VkDevice device_ = VK_NULL_HANDLE;
    VkPhysicalDeviceMemoryProperties memory_{};
    VkSampler sampler_ = VK_NULL_HANDLE;
    std::map<int, Texture> textures_;  // by ImTextureData's UniqueID
    std::vector<Frame> frames_;
};

}  // namespace vkqat

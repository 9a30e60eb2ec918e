#include "app/ui/textures.h"

#include <imgui_impl_vulkan.h>

#include <cstring>

#include "app/ui/image_transition.h"
#include "runtime/vulkan/vulkan.h"

namespace vkqat {

void Textures::start(const VolkDeviceTable& vk, VkDevice device, const VkPhysicalDeviceMemoryProperties& memory, size_t frames) {
    vk_ = vk;
    device_ = device;
    memory_ = memory;
    frames_.resize(frames);
    const VkSamplerCreateInfo sampler{.sType = VK_STRUCTURE_TYPE_SAMPLER_CREATE_INFO,
                                      .magFilter = VK_FILTER_LINEAR,
                                      .minFilter = VK_FILTER_LINEAR,
                                      .addressModeU = VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE,
                                      .addressModeV = VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE,
                                      .addressModeW = VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE,
                                      .maxAnisotropy = 1};
    check(vk_.vkCreateSampler(device_, &sampler, nullptr, &sampler_), "creating a sampler");
}

void Textures::end() {
    for (const auto& [id, texture] : textures_) free(texture);
    textures_.clear();
    for (Frame& frame : frames_) {
        for (const Staging& s : frame.staging) free(s);
        for (const Texture& t : frame.unused) free(t);
    }
    frames_.clear();
    if (sampler_) vk_.vkDestroySampler(device_, sampler_, nullptr);
    sampler_ = VK_NULL_HANDLE;
    for (ImTextureData* data : ImGui::GetPlatformIO().Textures)
        if (data->Status != ImTextureStatus_Destroyed) {
            data->SetTexID(ImTextureID_Invalid);
            data->SetStatus(ImTextureStatus_Destroyed);  // Dear ImGui then wants it created
        }
}

VkDeviceMemory Textures::allocate(const VkMemoryRequirements& needs, VkMemoryPropertyFlags wanted) {
    for (uint32_t type = 0; type < memory_.memoryTypeCount; type++) {
        if (!(needs.memoryTypeBits >> type & 1) || (memory_.memoryTypes[type].propertyFlags & wanted) != wanted) continue;
        const VkMemoryAllocateInfo info{
            .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = needs.size, .memoryTypeIndex = type};
        VkDeviceMemory memory = VK_NULL_HANDLE;
        check(vk_.vkAllocateMemory(device_, &info, nullptr, &memory), "memory for glyphs");
        return memory;
    }
    fail("the device that draws the window has no memory of the kind that glyphs need");
}

Textures::Texture Textures::create(const ImTextureData& data) {
    Texture t;
    const VkImageCreateInfo info{.sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
                                 .imageType = VK_IMAGE_TYPE_2D,
                                 .format = VK_FORMAT_R8G8B8A8_UNORM,
                                 .extent = {uint32_t(data.Width), uint32_t(data.Height), 1},
                                 .mipLevels = 1,
                                 .arrayLayers = 1,
                                 .samples = VK_SAMPLE_COUNT_1_BIT,
                                 .tiling = VK_IMAGE_TILING_OPTIMAL,
                                 .usage = VK_IMAGE_USAGE_SAMPLED_BIT | VK_IMAGE_USAGE_TRANSFER_DST_BIT};
    check(vk_.vkCreateImage(device_, &info, nullptr, &t.image), "creating a texture");
    VkMemoryRequirements needs;
    vk_.vkGetImageMemoryRequirements(device_, t.image, &needs);
    t.memory = allocate(needs, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    check(vk_.vkBindImageMemory(device_, t.image, t.memory, 0), "creating a texture");
    const VkImageViewCreateInfo view{.sType = VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO,
                                     .image = t.image,
                                     .viewType = VK_IMAGE_VIEW_TYPE_2D,
                                     .format = VK_FORMAT_R8G8B8A8_UNORM,
                                     .subresourceRange = whole_image};
    check(vk_.vkCreateImageView(device_, &view, nullptr, &t.view), "creating a texture");
    t.set = ImGui_ImplVulkan_AddTexture(sampler_, t.view, VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL);
    return t;
}

void Textures::free(const Texture& texture) {
    if (texture.set) ImGui_ImplVulkan_RemoveTexture(texture.set);
    vk_.vkDestroyImageView(device_, texture.view, nullptr);
    vk_.vkDestroyImage(device_, texture.image, nullptr);
    vk_.vkFreeMemory(device_, texture.memory, nullptr);
}

Textures::Staging Textures::stage(VkDeviceSize size) {
    Staging s;
    const VkBufferCreateInfo info{
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = size, .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT};
    check(vk_.vkCreateBuffer(device_, &info, nullptr, &s.buffer), "creating a buffer");
    VkMemoryRequirements needs;
    vk_.vkGetBufferMemoryRequirements(device_, s.buffer, &needs);
    s.memory = allocate(needs, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
    check(vk_.vkBindBufferMemory(device_, s.buffer, s.memory, 0), "creating a buffer");
    void* mapped = nullptr;
    check(vk_.vkMapMemory(device_, s.memory, 0, VK_WHOLE_SIZE, 0, &mapped), "creating a buffer");
    s.mapped = static_cast<std::byte*>(mapped);
    return s;
}

void Textures::free(const Staging& staging) {
    vk_.vkDestroyBuffer(device_, staging.buffer, nullptr);
    vk_.vkFreeMemory(device_, staging.memory, nullptr);
}

void Textures::record(VkCommandBuffer commands, size_t number, ImVector<ImTextureData*>& list) {
    Frame& frame = frames_.at(number);
    for (const Staging& s : frame.staging) free(s);
    for (const Texture& t : frame.unused) free(t);
    frame = {};
    for (ImTextureData* data : list) {
        if (data->Status == ImTextureStatus_OK) continue;
        if (data->Status == ImTextureStatus_WantDestroy) {  // this frame does not use it any more, an earlier one may
            if (const auto found = textures_.find(data->UniqueID); found != textures_.end()) {
                frame.unused.push_back(found->second);
                textures_.erase(found);
            }
            data->SetTexID(ImTextureID_Invalid);
            data->SetStatus(ImTextureStatus_Destroyed);
            continue;
        }
        const bool anew = data->Status == ImTextureStatus_WantCreate;
        if (!anew && data->Status != ImTextureStatus_WantUpdates) continue;
        if (anew) {
            const Texture& made = textures_[data->UniqueID] = create(*data);
            data->SetTexID(ImTextureID(made.set));
        }
        const Texture& texture = textures_.at(data->UniqueID);
        // Only what was never drawn is written; a new texture all of it.
        const ImTextureRect r = anew ? ImTextureRect{0, 0, uint16_t(data->Width), uint16_t(data->Height)} : data->UpdateRect;
        const size_t row = size_t(r.w) * size_t(data->BytesPerPixel);
        const Staging staging = stage(row * r.h);
        frame.staging.push_back(staging);
        for (int y = 0; y < r.h; y++) std::memcpy(staging.mapped + size_t(y) * row, data->GetPixelsAt(r.x, r.y + y), row);
        transition(vk_, commands, texture.image, anew ? VK_IMAGE_LAYOUT_UNDEFINED : VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL,
                   VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL);
        const VkBufferImageCopy region{
            .imageSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1}, .imageOffset = {r.x, r.y, 0}, .imageExtent = {r.w, r.h, 1}};
        vk_.vkCmdCopyBufferToImage(commands, staging.buffer, texture.image, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, 1, &region);
        transition(vk_, commands, texture.image, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL);
        data->SetStatus(ImTextureStatus_OK);
    }
}

}  // namespace vkqat

// The Vulkan instance: the loader, the devices it offers, and the validation layers' messages.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/vulkan/capabilities.h"

namespace vkqat {

struct InstanceOptions {
    bool validation = false;  // VK_LAYER_KHRONOS_validation with synchronization validation; Error if the layer is missing
};

class Instance {
public:
    explicit Instance(const InstanceOptions& options = {});  // Error if there is no Vulkan loader or no driver
    ~Instance();
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;

    VkInstance handle() const { return instance_; }
    // All devices, best first: discrete, integrated, virtual, CPU; devices that cannot run vkqat are left out.
    const std::vector<VkPhysicalDevice>& devices() const { return devices_; }
    // A device by index or by part of its name (case does not matter); empty: the first. Error that lists what there is.
    // `which`: of several that are meant (by a name; without one: all of the first one's kind), counted round and round.
    VkPhysicalDevice select(const std::string& selector, uint32_t which = 0) const;
    // Errors and warnings of the validation layers so far.
    size_t validation_messages() const { return messages_; }
    // Devices that were left out, each with the reason.
    const std::vector<std::string>& rejected() const { return rejected_; }

private:
    static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                                     const VkDebugUtilsMessengerCallbackDataEXT*, void*);
    VkInstance instance_ = VK_NULL_HANDLE;
    VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
    std::vector<VkPhysicalDevice> devices_;
    std::vector<std::string> rejected_;
    std::atomic<size_t> messages_ = 0;
};

}  // namespace vkqat

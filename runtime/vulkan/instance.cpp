#include "runtime/vulkan/instance.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>

namespace vkqat {
namespace {

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return text;
}

int preference(DeviceKind kind) {
    switch (kind) {
        case DeviceKind::discrete: return 0;
        case DeviceKind::integrated: return 1;
        case DeviceKind::virtual_gpu: return 2;
        case DeviceKind::other: return 3;
        case DeviceKind::cpu: return 4;
    }
    return 5;
}

bool has_layer(const char* name) {
    uint32_t count = 0;
    check(vkEnumerateInstanceLayerProperties(&count, nullptr), "listing Vulkan layers");
    std::vector<VkLayerProperties> layers(count);
    check(vkEnumerateInstanceLayerProperties(&count, layers.data()), "listing Vulkan layers");
    return std::any_of(layers.begin(), layers.end(), [&](auto& l) { return std::strcmp(l.layerName, name) == 0; });
}

}  // namespace

VKAPI_ATTR VkBool32 VKAPI_CALL Instance::on_message(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                                    const VkDebugUtilsMessengerCallbackDataEXT* data, void* self) {
    static_cast<Instance*>(self)->messages_++;
    std::fprintf(stderr, "validation: %s\n", data->pMessage);
    return VK_FALSE;
}

Instance::Instance(const InstanceOptions& options) {
    if (volkInitialize() != VK_SUCCESS)
        fail(
            "no Vulkan loader (libvulkan.so.1) on this machine; install a graphics driver, or Mesa's CPU driver with "
            "`apt-get install mesa-vulkan-drivers libvulkan1`");
    if (volkGetInstanceVersion() < VK_API_VERSION_1_3) fail("the Vulkan loader is older than 1.3; update the graphics driver");

    VkApplicationInfo application{
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .pApplicationName = "vkqat", .apiVersion = VK_API_VERSION_1_3};
    const char* layer = "VK_LAYER_KHRONOS_validation";
    const char* extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    const VkValidationFeatureEnableEXT features[] = {VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    VkValidationFeaturesEXT validation{.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                       .enabledValidationFeatureCount = 1,
                                       .pEnabledValidationFeatures = features};
    VkInstanceCreateInfo info{.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    if (options.validation) {
        if (!has_layer(layer)) fail("validation was asked for, but {} is not installed", layer);
        info.pNext = &validation;
        info.enabledLayerCount = 1;
        info.ppEnabledLayerNames = &layer;
        info.enabledExtensionCount = 1;
        info.ppEnabledExtensionNames = &extension;
    }
    VkResult result = vkCreateInstance(&info, nullptr, &instance_);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        fail("no Vulkan driver on this machine; install one, or Mesa's CPU driver with `apt-get install mesa-vulkan-drivers`");
    check(result, "creating the Vulkan instance");
    volkLoadInstanceOnly(instance_);

    if (options.validation) {
        VkDebugUtilsMessengerCreateInfoEXT debug{
            .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
            .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
            .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
            .pfnUserCallback = &Instance::on_message,
            .pUserData = this};
        check(vkCreateDebugUtilsMessengerEXT(instance_, &debug, nullptr, &messenger_), "creating the debug messenger");
    }

    uint32_t count = 0;
    check(vkEnumeratePhysicalDevices(instance_, &count, nullptr), "listing Vulkan devices");
    std::vector<VkPhysicalDevice> all(count);
    check(vkEnumeratePhysicalDevices(instance_, &count, all.data()), "listing Vulkan devices");
    for (VkPhysicalDevice device : all) {
        std::string missing = missing_features(device);
        if (missing.empty())
            devices_.push_back(device);
        else
            rejected_.push_back(missing);
    }
    std::stable_sort(devices_.begin(), devices_.end(), [](VkPhysicalDevice a, VkPhysicalDevice b) {
        return preference(query_capabilities(a).kind) < preference(query_capabilities(b).kind);
    });
}

Instance::~Instance() {
    if (messenger_) vkDestroyDebugUtilsMessengerEXT(instance_, messenger_, nullptr);
    if (instance_) vkDestroyInstance(instance_, nullptr);
}

VkPhysicalDevice Instance::select(const std::string& selector, uint32_t which) const {
    std::string list;
    for (size_t i = 0; i < devices_.size(); i++) list += fmt::format("\n  {}: {}", i, query_capabilities(devices_[i]).name);
    for (const std::string& reason : rejected_) list += "\n  not usable: " + reason;
    if (devices_.empty()) fail("no usable Vulkan device{}", list.empty() ? " on this machine" : list);
    std::vector<VkPhysicalDevice> meant;
    if (selector.empty()) {
        const DeviceKind kind = query_capabilities(devices_[0]).kind;
        for (VkPhysicalDevice device : devices_)
            if (query_capabilities(device).kind == kind) meant.push_back(device);
    } else if (std::all_of(selector.begin(), selector.end(), [](unsigned char c) { return std::isdigit(c); })) {
        if (selector.size() < 5 && std::stoul(selector) < devices_.size()) meant.push_back(devices_[std::stoul(selector)]);
    } else {
        for (VkPhysicalDevice device : devices_)
            if (lower(query_capabilities(device).name).find(lower(selector)) != std::string::npos) meant.push_back(device);
    }
    if (!meant.empty()) return meant[which % meant.size()];
    fail("no device '{}'; there are:{}", selector, list);
}

}  // namespace vkqat

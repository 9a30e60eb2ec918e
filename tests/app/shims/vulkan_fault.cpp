// A Vulkan layer for tests: does something at the Nth submission of a device, or of every one. VKQAT_FAULT says what:
//   lose window 40     the submission fails with VK_ERROR_DEVICE_LOST, once
//   kill model 2       the process is killed as by `kill -9`
//   slow model 150     every submission takes so many milliseconds longer
// `window` is the device that draws the window (its application is called vkqat-app), `model` any other.
#include <signal.h>
#include <unistd.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <sstream>
#include <string>

namespace {

struct Fault {
    std::string action, target;
    long count = 0;
    Fault() {
        const char* text = std::getenv("VKQAT_FAULT");
        std::istringstream(text ? text : "") >> action >> target >> count;
    }
};
const Fault& fault() {
    static const Fault f;
    return f;
}

struct InstanceData {
    PFN_vkGetInstanceProcAddr next = nullptr;
    bool window = false;
};
struct DeviceData {
    PFN_vkGetDeviceProcAddr next = nullptr;
    bool window = false;
};

std::mutex mutex;
std::map<void*, InstanceData> instances;  // by dispatch table
std::map<void*, DeviceData> devices;
std::atomic<long> submissions = 0;

template <class Handle>
void* key(Handle handle) {
    return *reinterpret_cast<void**>(handle);
}

VkResult act(bool window) {
    const Fault& f = fault();
    if ((f.target == "window") != window) return VK_SUCCESS;
    const long number = ++submissions;
    if (f.action == "slow") ::usleep(useconds_t(f.count * 1000));
    if (number != f.count) return VK_SUCCESS;
    if (f.action == "kill") ::kill(::getpid(), SIGKILL);
    return f.action == "lose" ? VK_ERROR_DEVICE_LOST : VK_SUCCESS;
}

template <class Function>
Function next_of(VkQueue queue, const char* name, VkDevice device_hint, bool& window) {
    std::lock_guard lock(mutex);
    const DeviceData& d = devices.at(key(queue));
    window = d.window;
    return reinterpret_cast<Function>(d.next(device_hint, name));
}

std::map<void*, VkDevice> handles;  // a device's handle by its dispatch table

VkDevice device_of(VkQueue queue) {
    std::lock_guard lock(mutex);
    return handles.at(key(queue));
}

VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo* infos, VkFence fence) {
    bool window = false;
    const auto next = next_of<PFN_vkQueueSubmit>(queue, "vkQueueSubmit", device_of(queue), window);
    const VkResult result = act(window);
    return result != VK_SUCCESS ? result : next(queue, count, infos, fence);
}

VKAPI_ATTR VkResult VKAPI_CALL submit2(VkQueue queue, uint32_t count, const VkSubmitInfo2* infos, VkFence fence) {
    bool window = false;
    const auto next = next_of<PFN_vkQueueSubmit2>(queue, "vkQueueSubmit2", device_of(queue), window);
    const VkResult result = act(window);
    return result != VK_SUCCESS ? result : next(queue, count, infos, fence);
}

template <class Info>
Info* link_of(const void* chain, VkStructureType type) {
    auto* info = static_cast<Info*>(const_cast<void*>(chain));
    while (info && !(info->sType == type && info->function == VK_LAYER_LINK_INFO))
        info = static_cast<Info*>(const_cast<void*>(info->pNext));
    return info;
}

VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo* info, const VkAllocationCallbacks* allocator,
                                               VkInstance* instance) {
    auto* link = link_of<VkLayerInstanceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
    const PFN_vkGetInstanceProcAddr next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    const auto create = reinterpret_cast<PFN_vkCreateInstance>(next(VK_NULL_HANDLE, "vkCreateInstance"));
    const VkResult result = create(info, allocator, instance);
    if (result != VK_SUCCESS) return result;
    const VkApplicationInfo* application = info->pApplicationInfo;
    const bool window = application && application->pApplicationName && !std::strcmp(application->pApplicationName, "vkqat-app");
    std::lock_guard lock(mutex);
    instances[key(*instance)] = {next, window};
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo* info,
                                             const VkAllocationCallbacks* allocator, VkDevice* device) {
    auto* link = link_of<VkLayerDeviceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
    const PFN_vkGetInstanceProcAddr next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    const PFN_vkGetDeviceProcAddr next = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    const auto create = reinterpret_cast<PFN_vkCreateDevice>(next_instance(VK_NULL_HANDLE, "vkCreateDevice"));
    const VkResult result = create(physical, info, allocator, device);
    if (result != VK_SUCCESS) return result;
    std::lock_guard lock(mutex);
    devices[key(*device)] = {next, instances[key(physical)].window};
    handles[key(*device)] = *device;
    return result;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_function(VkDevice device, const char* name);
VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_function(VkInstance instance, const char* name);

PFN_vkVoidFunction own(const char* name) {
    const std::map<std::string, PFN_vkVoidFunction> list{
        {"vkGetInstanceProcAddr", reinterpret_cast<PFN_vkVoidFunction>(instance_function)},
        {"vkGetDeviceProcAddr", reinterpret_cast<PFN_vkVoidFunction>(device_function)},
        {"vkCreateInstance", reinterpret_cast<PFN_vkVoidFunction>(create_instance)},
        {"vkCreateDevice", reinterpret_cast<PFN_vkVoidFunction>(create_device)},
        {"vkQueueSubmit", reinterpret_cast<PFN_vkVoidFunction>(submit)},
        {"vkQueueSubmit2", reinterpret_cast<PFN_vkVoidFunction>(submit2)}};
    const auto found = list.find(name);
    return found == list.end() ? nullptr : found->second;
}

PFN_vkVoidFunction device_function(VkDevice device, const char* name) {
    if (const auto function = own(name)) return function;
    PFN_vkGetDeviceProcAddr next;
    {
        std::lock_guard lock(mutex);
        next = devices.at(key(device)).next;
    }
    return next(device, name);
}

PFN_vkVoidFunction instance_function(VkInstance instance, const char* name) {
    if (const auto function = own(name)) return function;
    if (!instance) return nullptr;
    PFN_vkGetInstanceProcAddr next;
    {
        std::lock_guard lock(mutex);
        next = instances.at(key(instance)).next;
    }
    return next(instance, name);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) VkResult vkNegotiateLoaderLayerInterfaceVersion(
    VkNegotiateLayerInterface* interface) {
    interface->loaderLayerInterfaceVersion = 2;
    interface->pfnGetInstanceProcAddr = instance_function;
    interface->pfnGetDeviceProcAddr = device_function;
    interface->pfnGetPhysicalDeviceProcAddr = nullptr;
    return VK_SUCCESS;
}

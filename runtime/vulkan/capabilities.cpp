#include "runtime/vulkan/capabilities.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace vkqat {
namespace {

std::vector<VkExtensionProperties> extensions_of(VkPhysicalDevice device) {
    uint32_t count = 0;
    check(vkEnumerateDeviceExtensionProperties(device, nullptr, &count, nullptr), "listing device extensions");
    std::vector<VkExtensionProperties> extensions(count);
    check(vkEnumerateDeviceExtensionProperties(device, nullptr, &count, extensions.data()), "listing device extensions");
    return extensions;
}

bool has_extension(const std::vector<VkExtensionProperties>& extensions, const char* name) {
    return std::any_of(extensions.begin(), extensions.end(), [&](auto& e) { return std::strcmp(e.extensionName, name) == 0; });
}

// What an extension that the device has says of it.
template <class Properties>
Properties properties_of(VkPhysicalDevice device, VkStructureType type) {
    Properties properties{.sType = type};
    VkPhysicalDeviceProperties2 all{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &properties};
    vkGetPhysicalDeviceProperties2(device, &all);
    return properties;
}

bool to_dtype(VkComponentTypeKHR type, DType& out) {
    switch (type) {
        case VK_COMPONENT_TYPE_FLOAT16_KHR: out = DType::f16; return true;
        case VK_COMPONENT_TYPE_FLOAT32_KHR: out = DType::f32; return true;
        case VK_COMPONENT_TYPE_SINT8_KHR: out = DType::i8; return true;
        case VK_COMPONENT_TYPE_UINT8_KHR: out = DType::u8; return true;
        case VK_COMPONENT_TYPE_SINT32_KHR: out = DType::i32; return true;
        case VK_COMPONENT_TYPE_UINT32_KHR: out = DType::u32; return true;
        case VK_COMPONENT_TYPE_BFLOAT16_KHR: out = DType::bf16; return true;
        default: return false;
    }
}

std::vector<CooperativeMatrixShape> cooperative_matrices(VkPhysicalDevice device) {
    uint32_t count = 0;
    check(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR(device, &count, nullptr), "listing cooperative matrices");
    std::vector<VkCooperativeMatrixPropertiesKHR> list(count, {.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR});
    check(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR(device, &count, list.data()), "listing cooperative matrices");
    std::vector<CooperativeMatrixShape> shapes;
    for (auto& p : list) {
        CooperativeMatrixShape shape{p.MSize, p.NSize, p.KSize, {}, {}};
        if (p.scope == VK_SCOPE_SUBGROUP_KHR && p.AType == p.BType && p.CType == p.ResultType && !p.saturatingAccumulation &&
            to_dtype(p.AType, shape.input) && to_dtype(p.CType, shape.accumulator))
            shapes.push_back(shape);
    }
    return shapes;
}

}  // namespace

std::string_view kind_name(DeviceKind kind) {
    switch (kind) {
        case DeviceKind::discrete: return "discrete GPU";
        case DeviceKind::integrated: return "integrated GPU";
        case DeviceKind::virtual_gpu: return "virtual GPU";
        case DeviceKind::cpu: return "CPU";
        case DeviceKind::other: break;
    }
    return "other";
}

const CooperativeMatrixShape* Capabilities::cooperative_matrix(DType input, DType accumulator) const {
    const CooperativeMatrixShape* best = nullptr;
    for (auto& s : cooperative_matrices)
        if (s.input == input && s.accumulator == accumulator &&
            (!best || s.m * s.n * s.k > best->m * best->n * best->k || (s.m == s.n && best->m != best->n)))
            best = &s;
    return best;
}

Capabilities query_capabilities(VkPhysicalDevice device) {
    VkPhysicalDeviceVulkan13Properties p13{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES};
    VkPhysicalDeviceVulkan12Properties p12{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES, .pNext = &p13};
    VkPhysicalDeviceVulkan11Properties p11{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES, .pNext = &p12};
    VkPhysicalDeviceProperties2 p{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &p11};
    vkGetPhysicalDeviceProperties2(device, &p);
    const VkPhysicalDeviceLimits& limits = p.properties.limits;

    auto extensions = extensions_of(device);
    bool has_coopmat = has_extension(extensions, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    bool has_bf16 = has_extension(extensions, VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME);
    VkPhysicalDeviceShaderBfloat16FeaturesKHR bf16{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat{.sType =
                                                             VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    VkPhysicalDeviceVulkan13Features f13{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
    VkPhysicalDeviceVulkan12Features f12{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &f13};
    VkPhysicalDeviceVulkan11Features f11{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &f12};
    VkPhysicalDeviceFeatures2 f{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f11};
    void** next = &f13.pNext;
    if (has_coopmat) *next = &coopmat, next = &coopmat.pNext;
    if (has_bf16) *next = &bf16, next = &bf16.pNext;
    vkGetPhysicalDeviceFeatures2(device, &f);

    Capabilities c;
    c.name = p.properties.deviceName;
    c.driver = fmt::format("{} {}", p12.driverName, p12.driverInfo);
    switch (p.properties.deviceType) {
        case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: c.kind = DeviceKind::discrete; break;
        case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: c.kind = DeviceKind::integrated; break;
        case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: c.kind = DeviceKind::virtual_gpu; break;
        case VK_PHYSICAL_DEVICE_TYPE_CPU: c.kind = DeviceKind::cpu; break;
        default: break;
    }
    c.vendor_id = p.properties.vendorID;
    c.device_id = p.properties.deviceID;
    c.api_version = p.properties.apiVersion;
    std::copy_n(p.properties.pipelineCacheUUID, VK_UUID_SIZE, c.pipeline_cache_uuid);
    c.subgroup_size = p11.subgroupSize;
    c.min_subgroup_size = p13.minSubgroupSize;
    c.max_subgroup_size = p13.maxSubgroupSize;
    c.byte_dot = p13.integerDotProduct4x8BitPackedSignedAccelerated;
    c.subgroup_size_control = f13.subgroupSizeControl && (p13.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT);
    c.full_subgroups = f13.computeFullSubgroups;
    c.shared_memory_bytes = limits.maxComputeSharedMemorySize;
    c.max_workgroup_invocations =
        std::min(limits.maxComputeWorkGroupInvocations, c.subgroup_size * p13.maxComputeWorkgroupSubgroups);
    c.push_constant_bytes = limits.maxPushConstantsSize;
    c.max_allocation_bytes = std::min(p11.maxMemoryAllocationSize, p13.maxBufferSize);
    c.timestamp_period_ns = limits.timestampComputeAndGraphics ? double(limits.timestampPeriod) : 0;
    c.float16 = f12.shaderFloat16;
    c.int8 = f12.shaderInt8;
    c.storage16 = f11.storageBuffer16BitAccess;
    c.storage8 = f12.storageBuffer8BitAccess;
    c.bfloat16 = has_bf16 && bf16.shaderBFloat16Type;
    c.memory_model = f12.vulkanMemoryModel && f12.vulkanMemoryModelDeviceScope;
    c.memory_budget = has_extension(extensions, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    c.pipeline_executable_info = has_extension(extensions, VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);
    c.device_fault = has_extension(extensions, VK_EXT_DEVICE_FAULT_EXTENSION_NAME);
    if (has_extension(extensions, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME))
        c.host_memory_alignment = properties_of<VkPhysicalDeviceExternalMemoryHostPropertiesEXT>(
                                      device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT)
                                      .minImportedHostPointerAlignment;
    if (has_extension(extensions, VK_NV_SHADER_SM_BUILTINS_EXTENSION_NAME)) {
        c.processors = properties_of<VkPhysicalDeviceShaderSMBuiltinsPropertiesNV>(
                           device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV)
                           .shaderSMCount;
        const char* one_dispatch = std::getenv("VKQAT_ONE_DISPATCH");
        c.workgroups_run_together =
            p12.driverID == VK_DRIVER_ID_NVIDIA_PROPRIETARY && c.memory_model && !(one_dispatch && *one_dispatch == '0');
    } else if (has_extension(extensions, VK_AMD_SHADER_CORE_PROPERTIES_EXTENSION_NAME)) {
        const auto core = properties_of<VkPhysicalDeviceShaderCorePropertiesAMD>(
            device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_AMD);
        c.processors = core.shaderEngineCount * core.shaderArraysPerEngineCount * core.computeUnitsPerShaderArray;
    }
    // Drivers may accept a cooperative-matrix pipeline that they do not advertise, and then abort: only the feature counts.
    if (has_coopmat && coopmat.cooperativeMatrix && c.memory_model) c.cooperative_matrices = cooperative_matrices(device);
    if (!(c.bfloat16 && bf16.shaderBFloat16CooperativeMatrix))
        std::erase_if(c.cooperative_matrices, [](auto& s) { return s.input == DType::bf16 || s.accumulator == DType::bf16; });

    VkPhysicalDeviceMemoryProperties memory;
    vkGetPhysicalDeviceMemoryProperties(device, &memory);
    for (uint32_t i = 0; i < memory.memoryHeapCount; i++)
        if (memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
            c.device_memory_bytes = std::max<uint64_t>(c.device_memory_bytes, memory.memoryHeaps[i].size);

    c.quirks.barriers_are_slow = c.kind == DeviceKind::cpu;
    c.quirks.gathers_are_slow =
        p12.driverID == VK_DRIVER_ID_MESA_LLVMPIPE && VK_API_VERSION_MAJOR(p.properties.driverVersion) >= 26;
    // Data-centre boards have no display; their names are the only sign of it.
    bool data_centre = false;
    for (const char* name : {"H100", "H200", "A100", "B200", "L40", "Instinct", "Tesla"})
        data_centre |= c.name.find(name) != std::string::npos;
    c.quirks.drives_a_display = !data_centre && c.kind != DeviceKind::cpu;
    return c;
}

std::string missing_features(VkPhysicalDevice device) {
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(device, &properties);
    std::string name = properties.deviceName;
    if (properties.apiVersion < VK_API_VERSION_1_3) return name + ": offers Vulkan older than 1.3";
    VkPhysicalDeviceVulkan13Features f13{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
    VkPhysicalDeviceVulkan12Features f12{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &f13};
    VkPhysicalDeviceVulkan11Features f11{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &f12};
    VkPhysicalDeviceFeatures2 f{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f11};
    vkGetPhysicalDeviceFeatures2(device, &f);
    const std::pair<VkBool32, const char*> needed[] = {
        {f.features.shaderInt64, "shaderInt64"},
        {f12.bufferDeviceAddress, "bufferDeviceAddress"},
        {f12.timelineSemaphore, "timelineSemaphore"},
        {f12.scalarBlockLayout, "scalarBlockLayout"},
        {f11.storageBuffer16BitAccess, "storageBuffer16BitAccess"},
        {f12.storageBuffer8BitAccess, "storageBuffer8BitAccess"},
        {f12.shaderFloat16, "shaderFloat16"},
        {f12.shaderInt8, "shaderInt8"},
        {f.features.shaderInt16, "shaderInt16"},
        {f13.synchronization2, "synchronization2"},
        {f13.maintenance4, "maintenance4"},
        {f13.shaderIntegerDotProduct, "shaderIntegerDotProduct"},
    };
    std::string missing;
    VkPhysicalDeviceVulkan11Properties p11{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES};
    VkPhysicalDeviceProperties2 p{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &p11};
    vkGetPhysicalDeviceProperties2(device, &p);
    if (p11.subgroupSize < 8 || p11.subgroupSize > 64)
        missing = fmt::format("subgroups of 8 to 64 lanes (it has {})", p11.subgroupSize);
    for (auto& [present, feature] : needed)
        if (!present) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", feature);
    return missing.empty() ? "" : name + ": lacks " + missing;
}

}  // namespace vkqat

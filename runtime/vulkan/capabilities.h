// What a device can do (Capabilities), and what is wrong with its driver (Quirks). No other file asks for a vendor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/support/dtype.h"
#include "runtime/vulkan/vulkan.h"

namespace vkqat {

enum class DeviceKind { discrete, integrated, virtual_gpu, cpu, other };
std::string_view kind_name(DeviceKind kind);

// One shape of VK_KHR_cooperative_matrix at subgroup scope: C[m, n] += A[m, k] B[k, n].
struct CooperativeMatrixShape {
    uint32_t m, n, k;
    DType input, accumulator;
};

struct Quirks {
    // Workgroup barriers cost far more than arithmetic (CPU drivers run a workgroup's invocations as coroutines).
    bool barriers_are_slow = false;
    // A per-lane load, even a contiguous one, becomes a gather; subgroup-uniform loads are fast (lavapipe of Mesa 26,
    // 6 times at matrix products; with 25.0 and its older LLVM gathers are the faster ones; shaders/lanes.glsl).
    bool gathers_are_slow = false;
    // A submission that runs for long makes the desktop stutter or the watchdog reset the GPU.
    bool drives_a_display = true;
};

struct Capabilities {
    std::string name, driver;  // driver: name and version as the driver says
    DeviceKind kind = DeviceKind::other;
    uint32_t vendor_id = 0, device_id = 0, api_version = 0;
    uint8_t pipeline_cache_uuid[VK_UUID_SIZE] = {};

    uint32_t subgroup_size = 0;  // the one that is used: the driver's default unless another was asked for
    uint32_t min_subgroup_size = 0, max_subgroup_size = 0;
    bool subgroup_size_control = false, full_subgroups = false;
    uint32_t shared_memory_bytes = 0, max_workgroup_invocations = 0, push_constant_bytes = 0;
    uint32_t processors = 0;  // that run workgroups side by side; 0: not known
    // Workgroups of one dispatch, one for each processor, all run at the same time once nothing else does: they may wait for one
    // another. Vulkan does not promise it: NVIDIA's driver does it so; VKQAT_ONE_DISPATCH=0 in the environment says no.
    bool workgroups_run_together = false;
    uint64_t max_allocation_bytes = 0, device_memory_bytes = 0;
    double timestamp_period_ns = 0;  // 0: no timestamps on the compute queue

    bool byte_dot = false;  // dot products of four packed bytes are instructions, not emulated
    bool float16 = false, int8 = false, storage16 = false, storage8 = false, bfloat16 = false;
    bool memory_model = false;  // Vulkan's, with the device's scope: workgroups of one dispatch may hand data on
    bool memory_budget = false, pipeline_executable_info = false, device_fault = false;
    uint64_t host_memory_alignment = 0;  // of memory of the process that the device may use in place; 0: it cannot
    std::vector<CooperativeMatrixShape> cooperative_matrices;
    Quirks quirks;

    // Whether shaders/lanes.glsl builds vectors of 8 lanes from uniform loads.
    bool uniform_loads() const { return quirks.gathers_are_slow && subgroup_size == 8; }
    // The shape for these types whose tile is the largest, or nullptr.
    const CooperativeMatrixShape* cooperative_matrix(DType input, DType accumulator) const;
};

Capabilities query_capabilities(VkPhysicalDevice device);

// Why this device cannot run vkqat ("lacks bufferDeviceAddress, int64"), or an empty string.
std::string missing_features(VkPhysicalDevice device);

}  // namespace vkqat

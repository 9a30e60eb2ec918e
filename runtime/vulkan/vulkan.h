// Vulkan through volk: the loader is opened at run time, nothing links libvulkan.
#pragma once

#include <volk.h>

#include <string_view>

#include "runtime/support/error.h"

namespace vkqat {

std::string_view result_name(VkResult result);

// Every Vulkan result is checked; `what` says what was being done.
inline void check(VkResult result, std::string_view what) {
    if (result < 0) fail("{}: Vulkan answered {}", what, result_name(result));
}

}  // namespace vkqat

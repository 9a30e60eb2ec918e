// The barrier between submissions, copies and dispatches of any kind.
#pragma once

#include "runtime/vulkan/vulkan.h"

namespace vkqat {

// Everything before is visible to everything after, also to the host and to indirect dispatches.
void full_barrier(const VolkDeviceTable& vk, VkCommandBuffer commands);

}  // namespace vkqat

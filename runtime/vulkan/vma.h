// The Vulkan Memory Allocator, with Vulkan's functions handed over by volk.
#pragma once

#include "runtime/vulkan/vulkan.h"

#define VMA_STATIC_VULKAN_FUNCTIONS 0
#define VMA_DYNAMIC_VULKAN_FUNCTIONS 0
#define VMA_VULKAN_VERSION 1003000
#include <vk_mem_alloc.h>

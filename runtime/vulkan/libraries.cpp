// The one translation unit that compiles the header-only libraries.
#define VOLK_IMPLEMENTATION
#include <volk.h>

#define VMA_IMPLEMENTATION
#include "runtime/vulkan/vma.h"

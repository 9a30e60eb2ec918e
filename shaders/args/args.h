// Argument structs are written once, in these headers, for GLSL and for C++: first the device addresses of the tensors, in the
// order in which the node names them, then sizes and numbers. At most 128 bytes where any device is to run it, 256 at all.
#ifndef VKQAT_ARGS_H
#define VKQAT_ARGS_H

#ifdef __cplusplus
#include <cstdint>
#define ARGS_BEGIN namespace vkqat {
#define ARGS_END }
#define ADDRESSES(n) static constexpr uint32_t address_count = n;
#define ADDRESS uint64_t
#define ARG_UINT uint32_t
#define ARG_INT int32_t
#define ARG_FLOAT float
#else
#define ARGS_BEGIN
#define ARGS_END
#define ADDRESSES(n)
#define ADDRESS uint64_t
#define ARG_UINT uint
#define ARG_INT int
#define ARG_FLOAT float
#endif

#endif

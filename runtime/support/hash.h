// Checksums of stored tensors: they find damage, not forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vkqat {

// CRC-32 (the polynomial of zlib and gzip) of `bytes`. A tensor may come in pieces: checksum(b, checksum(a)) is that of a
// followed by b; nothing at all has checksum 0.
uint32_t checksum(std::span<const std::byte> bytes, uint32_t of_what_came_before = 0);

}  // namespace vkqat

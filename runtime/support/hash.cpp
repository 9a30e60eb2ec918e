#include "runtime/support/hash.h"

#include <zlib.h>

namespace vkqat {

uint32_t checksum(std::span<const std::byte> bytes, uint32_t of_what_came_before) {
    // crc32_z takes a null pointer for "the initial value", which would drop what came before.
    if (bytes.empty()) return of_what_came_before;
    return uint32_t(crc32_z(of_what_came_before, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace vkqat

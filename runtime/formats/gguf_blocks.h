// The element types of GGUF's tensors: plain numbers, or blocks of a row that share a scale.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/support/dtype.h"

namespace vkqat {

struct GgufBlockType {
    uint32_t id = 0;  // in the file
    std::string_view name;
    int64_t elements = 1;                                     // of a block; a row is a whole number of blocks
    uint64_t bytes = 0;                                       // of a block
    std::optional<DType> dtype = {};                          // plain numbers that need no conversion
    void (*decode)(const std::byte* block, float* out) = {};  // a block's elements; null for a type that is known but not read
};

// Null for a number that means nothing here.
const GgufBlockType* find_block_type(uint32_t id);

// "f32, f16, bf16, q8_0, ...": those that are read.
std::string readable_block_types();

// Whole blocks -> f16 values in `out`, rounded to nearest, ties to even. Why f16: a quantized value is an integer of 4 to 8 bits
// times an f16 scale; f16 errs by at most 1/32 of a step of q8_0 (bf16 by 1/4), and f32 would double the memory and the time of a
// token. Error if the type has no decoder, the bytes are no whole number of blocks, `out` has not their size, or a value is not
// finite in f16. Uses several threads where there is much to do.
void decode_blocks(const GgufBlockType& type, std::span<const std::byte> blocks, std::span<std::byte> out);

}  // namespace vkqat

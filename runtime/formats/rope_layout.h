// The two orders of a head's rows in q and k projections. RoPE turns pairs of elements: here, and in Hugging Face weights,
// element i pairs with i + head_dim/2 (split halves); some trainers and llama.cpp's GGUF pair 2i with 2i + 1 (interleaved).
// Which order it is makes no difference to the result, so long as weights and RoPE agree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vkqat {

// weight: `rows` rows of equal size (bytes, of any type), heads * head_dim of them. Returns the rows of each head with the
// first elements of all pairs in front of the second ones. Error if rows do not divide into heads of even size.
std::vector<std::byte> interleaved_to_split_halves(std::span<const std::byte> weight, int64_t rows, int64_t heads);

// The same into `out`, of the same size.
void interleaved_to_split_halves(std::span<const std::byte> weight, int64_t rows, int64_t heads, std::span<std::byte> out);

// The inverse.
std::vector<std::byte> split_halves_to_interleaved(std::span<const std::byte> weight, int64_t rows, int64_t heads);

}  // namespace vkqat

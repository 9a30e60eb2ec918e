#include "runtime/formats/rope_layout.h"

#include <cstring>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

void permute(std::span<const std::byte> weight, int64_t rows, int64_t heads, bool to_split_halves, std::span<std::byte> result) {
    if (heads < 1 || rows < 1 || rows % heads != 0 || rows / heads % 2 != 0) {
        fail("RoPE layout: {} rows do not divide into {} heads of an even number of rows", rows, heads);
    }
    if (weight.size() % size_t(rows) != 0) fail("RoPE layout: {} bytes do not divide into {} rows", weight.size(), rows);
    size_t row_bytes = weight.size() / size_t(rows);
    int64_t half = rows / heads / 2;
    if (result.size() != weight.size()) fail("RoPE layout: {} bytes do not go into {}", weight.size(), result.size());
    if (row_bytes == 0) return;
    for (int64_t pair = 0; pair < rows / 2; ++pair) {
        int64_t head = pair / half, i = pair % half;
        for (int64_t j = 0; j < 2; ++j) {
            int64_t interleaved = (head * half + i) * 2 + j, split = (head * 2 + j) * half + i;
            int64_t from = to_split_halves ? interleaved : split, to = to_split_halves ? split : interleaved;
            std::memcpy(result.data() + size_t(to) * row_bytes, weight.data() + size_t(from) * row_bytes, row_bytes);
        }
    }
}

}  // namespace

std::vector<std::byte> interleaved_to_split_halves(std::span<const std::byte> weight, int64_t rows, int64_t heads) {
    std::vector<std::byte> result(weight.size());
    permute(weight, rows, heads, true, result);
    return result;
}

void interleaved_to_split_halves(std::span<const std::byte> weight, int64_t rows, int64_t heads, std::span<std::byte> out) {
    permute(weight, rows, heads, true, out);
}

std::vector<std::byte> split_halves_to_interleaved(std::span<const std::byte> weight, int64_t rows, int64_t heads) {
    std::vector<std::byte> result(weight.size());
    permute(weight, rows, heads, false, result);
    return result;
}

}  // namespace vkqat

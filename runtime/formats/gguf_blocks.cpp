#include "runtime/formats/gguf_blocks.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <string>
#include <thread>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

float half_at(const std::byte* p) {
    uint16_t half;
    std::memcpy(&half, p, 2);
    return f16_to_f32(half);
}

// Layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h. The products are exact in f32.

// f16 scale, 32 int8
void decode_q8_0(const std::byte* block, float* out) {
    float scale = half_at(block);
    for (int i = 0; i < 32; ++i) out[i] = scale * float(int8_t(block[2 + i]));
}

// f16 scale, 16 bytes: elements 0 .. 15 in the low halves, 16 .. 31 in the high ones; 8 stands for 0
void decode_q4_0(const std::byte* block, float* out) {
    float scale = half_at(block);
    for (int i = 0; i < 16; ++i) {
        int byte = int(block[2 + i]);
        out[i] = scale * float((byte & 15) - 8);
        out[i + 16] = scale * float((byte >> 4) - 8);
    }
}

// f16 scale, f16 minimum, 16 bytes as above; 0 stands for the minimum
void decode_q4_1(const std::byte* block, float* out) {
    float scale = half_at(block), minimum = half_at(block + 2);
    for (int i = 0; i < 16; ++i) {
        int byte = int(block[4 + i]);
        out[i] = scale * float(byte & 15) + minimum;
        out[i + 16] = scale * float(byte >> 4) + minimum;
    }
}

// 128 bytes of low halves, 64 bytes of two high bits each, 16 int8 scales of 16 elements, f16 scale of the scales; 32 stands
// for 0. Of each 128 elements, element 32 j + i has its low half in byte i + 32 (j % 2), in the high half of that for j >= 2,
// and its high bits in byte i at bit 2 j.
void decode_q6_k(const std::byte* block, float* out) {
    float super = half_at(block + 208);
    for (int run = 0; run < 16; ++run) {  // 16 elements of one scale
        const int part = run / 8, j = run % 8 / 2, first = run % 2 * 16;
        const std::byte *low = block + part * 64 + j % 2 * 32 + first, *high = block + 128 + part * 32 + first;
        const float scale = super * float(int8_t(block[192 + run]));
        for (int i = 0; i < 16; ++i) {
            int value = (int(low[i]) >> (j / 2 * 4) & 15) | (int(high[i]) >> (2 * j) & 3) << 4;
            out[run * 16 + i] = scale * float(value - 32);
        }
    }
}

constexpr GgufBlockType block_types[] = {
    {0, "f32", 1, 4, DType::f32},
    {1, "f16", 1, 2, DType::f16},
    {2, "q4_0", 32, 18, {}, decode_q4_0},
    {3, "q4_1", 32, 20, {}, decode_q4_1},
    {6, "q5_0", 32, 22},
    {7, "q5_1", 32, 24},
    {8, "q8_0", 32, 34, {}, decode_q8_0},
    {10, "q2_k", 256, 84},
    {11, "q3_k", 256, 110},
    {12, "q4_k", 256, 144},
    {13, "q5_k", 256, 176},
    {14, "q6_k", 256, 210, {}, decode_q6_k},
    {16, "iq2_xxs", 256, 66},
    {17, "iq2_xs", 256, 74},
    {18, "iq3_xxs", 256, 98},
    {19, "iq1_s", 256, 50},
    {20, "iq4_nl", 32, 18},
    {21, "iq3_s", 256, 110},
    {22, "iq2_s", 256, 82},
    {23, "iq4_xs", 256, 136},
    {24, "i8", 1, 1},
    {25, "i16", 1, 2},
    {26, "i32", 1, 4},
    {27, "i64", 1, 8},
    {28, "f64", 1, 8},
    {29, "iq1_m", 256, 56},
    {30, "bf16", 1, 2, DType::bf16},
    {34, "tq1_0", 256, 54},
    {35, "tq2_0", 256, 66},
    {39, "mxfp4", 32, 17},
};
constexpr int64_t most_elements = 256;

// f32_to_f16 without branches, which the compiler makes vectors of. `values` is a whole block's. False if one becomes infinite or
// is not finite.
bool to_halves(const float* values, uint16_t* __restrict halves, size_t count) {
    int32_t too_large = 0;
    for (size_t i = 0; i < count; ++i) {
        const int32_t bits = std::bit_cast<int32_t>(values[i]), magnitude = bits & 0x7fffffff;
        const int32_t normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000) >> 13;
        // Next to 0.5 a unit in the last place is f16's smallest subnormal: the addition rounds.
        const int32_t small = std::bit_cast<int32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
        const int32_t is_small = (magnitude - 0x38800000) >> 31;  // all bits or none
        halves[i] = uint16_t(((bits >> 16) & 0x8000) | (small & is_small) | (normal & ~is_small));
        too_large |= 0x477fefff - magnitude;  // 65520 is half-way to 2^16
    }
    return too_large >= 0;
}

// False if a value is not finite.
bool decode_range(const GgufBlockType& type, const std::byte* blocks, size_t count, std::byte* out) {
    float values[most_elements];
    uint16_t halves[most_elements];
    bool finite = true;
    const size_t n = size_t(type.elements);
    for (size_t b = 0; b < count; ++b) {
        type.decode(blocks + b * type.bytes, values);
        finite &= to_halves(values, halves, n);
        std::memcpy(out + b * n * 2, halves, n * 2);
    }
    return finite;
}

}  // namespace

const GgufBlockType* find_block_type(uint32_t id) {
    auto found = std::ranges::find(block_types, id, &GgufBlockType::id);
    return found == std::end(block_types) ? nullptr : found;
}

std::string readable_block_types() {
    std::string text;
    for (const GgufBlockType& type : block_types)
        if (type.dtype || type.decode) text += (text.empty() ? "" : ", ") + std::string(type.name);
    return text;
}

void decode_blocks(const GgufBlockType& type, std::span<const std::byte> blocks, std::span<std::byte> out) {
    if (!type.decode) fail("type {} cannot be decoded; expected one of {}", type.name, readable_block_types());
    if (blocks.size() % type.bytes != 0) fail("{} bytes are no whole number of {}'s blocks", blocks.size(), type.name);
    const size_t count = blocks.size() / type.bytes, of_block = size_t(type.elements) * 2;
    if (out.size() != count * of_block) fail("{} blocks of {} do not make {} bytes of f16", count, type.name, out.size());
    const size_t worth_a_thread = 65536;
    const size_t threads =
        std::clamp<size_t>(count / worth_a_thread, 1, std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 16));
    std::atomic<bool> finite = true;
    auto work = [&](size_t t) {
        size_t first = count * t / threads, last = count * (t + 1) / threads;
        if (!decode_range(type, blocks.data() + first * type.bytes, last - first, out.data() + first * of_block)) finite = false;
    };
    {
        std::vector<std::jthread> others;
        for (size_t t = 1; t < threads; ++t) others.emplace_back(work, t);
        work(0);
    }
    if (!finite) fail("a value is not finite in f16; is the file damaged?");
}

}  // namespace vkqat

#include "runtime/support/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace vkqat {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

// Nearest of the format's values by search over all of them, ties to the even pattern. `finite` non-negative values are the
// patterns 0 .. finite - 1 in rising order; `next` is the value that would follow the largest.
template <class ToF32>
uint16_t nearest(double value, uint32_t finite, double next, ToF32 to_f32) {
    uint32_t low = 0, high = finite;
    auto at = [&](uint32_t i) { return i == finite ? next : double(to_f32(uint16_t(i))); };
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        (at(middle) <= value ? low : high) = middle;
    }
    double below = value - at(low), above = at(high) - value;
    return uint16_t(below < above || (below == above && low % 2 == 0) ? low : high);
}

TEST(DTypes, SizesAndNames) {
    EXPECT_EQ(bytes(DType::f32), 4u);
    EXPECT_EQ(bytes(DType::bf16), 2u);
    EXPECT_EQ(bytes(DType::u8), 1u);
    EXPECT_EQ(bytes(DType::i64), 8u);
    EXPECT_EQ(name(DType::f16), "f16");
    EXPECT_TRUE(is_float(DType::bf16));
    EXPECT_FALSE(is_float(DType::i32));
}

TEST(DTypes, EveryFloat16SurvivesTheRoundTrip) {
    for (uint32_t i = 0; i < 65536; ++i) {
        float f = f16_to_f32(uint16_t(i)), b = bf16_to_f32(uint16_t(i));
        if (std::isnan(f)) {
            EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f)))) << i;
        } else {
            ASSERT_EQ(f32_to_f16(f), i);
        }
        if (std::isnan(b)) {
            EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(b)))) << i;
        } else {
            ASSERT_EQ(f32_to_bf16(b), i);
        }
    }
}

TEST(DTypes, KnownValues) {
    EXPECT_EQ(f16_to_f32(0x3c00), 1.0f);
    EXPECT_EQ(f16_to_f32(0xc000), -2.0f);
    EXPECT_EQ(f16_to_f32(0x7bff), 65504.0f);
    EXPECT_EQ(f16_to_f32(0x0001), 0x1p-24f);
    EXPECT_EQ(f16_to_f32(0x03ff), 0x3ffp-24f);
    EXPECT_EQ(f16_to_f32(0x0400), 0x1p-14f);
    EXPECT_EQ(f16_to_f32(0x7c00), inf);
    EXPECT_TRUE(std::signbit(f16_to_f32(0x8000)));
    EXPECT_EQ(bf16_to_f32(0x3f80), 1.0f);
    EXPECT_EQ(bf16_to_f32(0xc040), -3.0f);
}

TEST(DTypes, RoundsToNearestEven) {
    // A walk over all magnitudes, with steps that are no power of two; and every half-way point with its neighbours.
    auto check = [](uint32_t bits) {
        float value = std::bit_cast<float>(bits);
        ASSERT_EQ(f32_to_f16(value), nearest(value, 0x7c00, 65536.0, f16_to_f32)) << value;
        ASSERT_EQ(f32_to_bf16(value), nearest(value, 0x7f80, 0x1p128, bf16_to_f32)) << value;
        ASSERT_EQ(f32_to_f16(-value), f32_to_f16(value) | 0x8000) << value;
        ASSERT_EQ(f32_to_bf16(-value), f32_to_bf16(value) | 0x8000) << value;
    };
    for (uint64_t bits = 0; bits < 0x7f800000u; bits += 10007) check(uint32_t(bits));
    for (uint32_t i = 0; i + 1 < 0x7c00; i += 7) {
        uint32_t half_way = std::bit_cast<uint32_t>((f16_to_f32(uint16_t(i)) + f16_to_f32(uint16_t(i + 1))) / 2);
        for (uint32_t bits : {half_way - 1, half_way, half_way + 1}) check(bits);
    }
    for (uint32_t i = 0; i < 0x7f80; i += 5) {
        for (uint32_t bits : {(i << 16) + 0x7fff, (i << 16) + 0x8000, (i << 16) + 0x8001}) check(bits);
    }
}

TEST(DTypes, OverflowsToInfinity) {
    EXPECT_EQ(f32_to_f16(65519.0f), 0x7bff);
    EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
    EXPECT_EQ(f32_to_f16(-1e30f), 0xfc00);
    EXPECT_EQ(f32_to_f16(inf), 0x7c00);
    EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
    EXPECT_EQ(f32_to_bf16(-inf), 0xff80);
    EXPECT_EQ(f32_to_f16(0x1p-25f), 0x0000);
    EXPECT_EQ(f32_to_f16(0x1.8p-25f), 0x0001);
}

TEST(DTypes, NanStaysNan) {
    for (uint32_t bits : {0x7fc00000u, 0x7f800001u, 0xffffffffu, 0xff800001u}) {  // payloads only in bits that are cut off too
        float nan = std::bit_cast<float>(bits);
        EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(nan))));
        EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(nan))));
        EXPECT_EQ(std::signbit(bf16_to_f32(f32_to_bf16(nan))), bits >> 31 != 0);
    }
}

}  // namespace
}  // namespace vkqat

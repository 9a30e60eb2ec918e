// Element types of tensors, and the conversions of the 16-bit floating-point formats.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace vkqat {

enum class DType : uint8_t { f32, f16, bf16, u8, i8, u32, i32, i64 };

// Size of one element.
constexpr size_t bytes(DType type) {
    switch (type) {
        case DType::f32: return 4;
        case DType::f16: return 2;
        case DType::bf16: return 2;
        case DType::u8: return 1;
        case DType::i8: return 1;
        case DType::u32: return 4;
        case DType::i32: return 4;
        case DType::i64: return 8;
    }
    return 0;
}

constexpr std::string_view name(DType type) {
    switch (type) {
        case DType::f32: return "f32";
        case DType::f16: return "f16";
        case DType::bf16: return "bf16";
        case DType::u8: return "u8";
        case DType::i8: return "i8";
        case DType::u32: return "u32";
        case DType::i32: return "i32";
        case DType::i64: return "i64";
    }
    return "?";
}

constexpr bool is_float(DType type) { return type == DType::f32 || type == DType::f16 || type == DType::bf16; }

constexpr float bf16_to_f32(uint16_t value) { return std::bit_cast<float>(uint32_t(value) << 16); }

// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN of the same sign.
constexpr uint16_t f32_to_bf16(float value) {
    uint32_t u = std::bit_cast<uint32_t>(value);
    if ((u & 0x7fffffffu) > 0x7f800000u) return uint16_t((u >> 16) | 0x40u);
    return uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

constexpr float f16_to_f32(uint16_t value) {
    uint32_t sign = uint32_t(value & 0x8000u) << 16, exponent = (value >> 10) & 0x1fu, mantissa = value & 0x3ffu;
    if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
    if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in float
        float magnitude = float(mantissa) * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// Rounds to nearest, ties to even; too large becomes infinity; too small a subnormal or zero; NaN stays NaN.
constexpr uint16_t f32_to_f16(float value) {
    uint32_t u = std::bit_cast<uint32_t>(value), magnitude = u & 0x7fffffffu;
    uint16_t sign = uint16_t((u >> 16) & 0x8000u);
    if (magnitude > 0x7f800000u) return uint16_t(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);  // 65520 is half-way to 2^16: infinity
    if (magnitude >= 0x38800000u) {                                 // normal: at least 2^-14
        uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
        return uint16_t(sign | ((rounded - 0x38000000u) >> 13));
    }
    if (magnitude < 0x33000000u) return sign;  // below 2^-25, half of the smallest subnormal
    uint32_t shift = 126 - (magnitude >> 23);  // 14 .. 24
    uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    uint32_t quotient = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
    if (rest > half || (rest == half && (quotient & 1u))) ++quotient;
    return uint16_t(sign | quotient);
}

}  // namespace vkqat

// Packed linear layers: indices of 1, 2, 3, 4 or 8 bits into a table of centroids, times a scale per block of a row.
//
// Layout. A row of `in` indices is one dense stream of bits, most significant bit first: at 1, 2, 4 and 8 bits the first
// element of a byte lies in its highest bits, which is what the published exporter writes. At 3 bits, which it does not
// define, eight indices a..h fill three bytes: aaabbbcc cdddeeef ffggghhh; `in` is then a multiple of 8, and
// quantization_config.json says "packing": "dense_msb_first".
//
// Ternary weights may lie five to a byte, the first in the lowest place of five digits to the base 3 (0, 1, 2 for -1, 0, 1; a
// row's last byte is filled up with 0): 1.6 bits each. quantization_config.json then says "packing": "ternary_5_per_byte"; the
// table is that of 2 bits.
//
// Asymmetric quantizers, which it does not define either, have one more number for each block: a zero point (int_asym), or the
// scale of what lies below 0 (nf).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/formats/checkpoint.h"

namespace vkqat {

constexpr std::string_view packing_dense_msb_first = "dense_msb_first";
constexpr std::string_view packing_ternary = "ternary_5_per_byte";

// 1, 2, 3, 4 or 8
bool is_packed_bits(int64_t bits);

// Bytes of a row of `in` indices. Error if bits are none of the above or the row is no whole number of bytes.
int64_t packed_row_bytes(int64_t in, int bits);

// indices: any number of rows [rows, in], each value below 2^bits -> [rows, in * bits / 8]. Error as above, if they are no
// whole number of rows, or a value is too large.
std::vector<uint8_t> pack_indices(std::span<const uint8_t> indices, int64_t in, int bits);
// The inverse. packed [rows, in * bits / 8] -> [rows, in]
std::vector<uint8_t> unpack_indices(std::span<const uint8_t> packed, int64_t in, int bits);

// The same with five ternary indices (0, 1, 2) to a byte; rows take whole bytes. Error: an index above 2, a byte above 242, or no
// whole rows.
int64_t ternary_row_bytes(int64_t in);
std::vector<uint8_t> pack_ternary(std::span<const uint8_t> indices, int64_t in);
std::vector<uint8_t> unpack_ternary(std::span<const uint8_t> packed, int64_t in);

// What a block's scale is; never less than 1e-5, except that `none` is 1.
enum class ScaleStatistic : uint8_t { none, absmax, absmean, rms };
std::string_view name(ScaleStatistic statistic);
ScaleStatistic parse_scale_statistic(std::string_view name);  // Error naming the possible ones

// weight [rows, in], in blocks of 1 x block_size -> scales [rows, in / block_size], in full precision. Error if a block does
// not divide a row, or a weight is not finite.
std::vector<float> block_scales(std::span<const float> weight, int64_t in, int64_t block_size, ScaleStatistic statistic);

// A packed layer in memory.
struct PackedWeight {
    int64_t out = 0, in = 0;
    int64_t block_size = 0;
    int bits = 0;
    std::vector<uint8_t> packed;   // [out, in * bits / 8]
    std::vector<uint16_t> scales;  // bf16 [out, in / block_size]
    std::vector<float> centroids;  // [2^bits], sorted
    // Of asymmetric quantizers, one of the two, [out, in / block_size]; else empty:
    std::vector<uint8_t> zeros;             // value = (centroid - zero) * scale
    std::vector<uint16_t> negative_scales;  // bf16, of centroids below 0; `scales` are those of the others
};

// weight [out, in] quantized to the nearest centroid of weight / scale; the boundary half-way between two belongs to the
// lower one. Indices come from the scale in full precision; it is stored rounded to bf16. centroids: 2^bits, sorted.
// Errors: as block_scales and packed_row_bytes, or a table that is not sorted, finite and of such a length.
// This is the reference; the GPU's kernels answer to it.
PackedWeight quantize_and_pack(std::span<const float> weight, int64_t out, int64_t in, int64_t block_size,
                               std::span<const float> centroids, ScaleStatistic statistic);

// A packed layer in a model's files; lives as long as they do.
struct PackedLinear {
    int64_t out = 0, in = 0;
    int64_t block_size = 0;
    int bits = 0;
    bool ternary = false;                         // five indices to a byte; bits is 2
    const TensorView* weight_packed = nullptr;    // u8 [out, in * bits / 8], or [out, ternary_row_bytes(in)]
    const TensorView* scales = nullptr;           // bf16 [out, in / block_size]
    const TensorView* centroids = nullptr;        // f32 [2^bits], sorted
    const TensorView* zeros = nullptr;            // u8 [out, in / block_size], or absent
    const TensorView* negative_scales = nullptr;  // bf16 [out, in / block_size], or absent
    // Of all but the indices and the table.
    uint64_t scale_bytes() const {
        return scales->bytes.size() + (zeros ? zeros->bytes.size() : 0) + (negative_scales ? negative_scales->bytes.size() : 0);
    }
    uint64_t bytes() const { return weight_packed->bytes.size() + scale_bytes() + centroids->bytes.size(); }
};

// The packed layer PREFIX.weight_packed, .scales, .centroids of a projection that should be [out, in]; nothing if the model
// has none of the three (the layer may then have a plain PREFIX.weight). PREFIX.zeros or PREFIX.negative_scales may
// come with them. Bits follow from the number of centroids, the block
// size from the shapes. Error naming the tensor if one is missing, does not fit [out, in], or holds a value that is not
// finite, if centroids are not sorted, or 3 bits are packed in an unknown way.
std::optional<PackedLinear> find_packed_linear(const ModelFiles& model, std::string_view prefix, int64_t out, int64_t in);

PackedWeight load(const PackedLinear& layer);

// centroids[index] * scale, or as its zeros or negative scales say, [out, in]
std::vector<float> dequantize(const PackedWeight& weight);

}  // namespace vkqat

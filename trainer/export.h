// From a checkpoint to a model directory that the runtime, and programs that read the Hugging Face format, load.
//
// A quantized layer becomes weight_packed, scales and centroids (runtime/formats/packing.h): value = centroids[index] * scale,
// scales [out, in / block_dim_2] rounded to bf16, those of blocks of several rows repeated in each row. Indices come from the
// scales before they are rounded. All quantizers become tables:
//   nonlinear           the fitted centroids
//   sym_int, b bits     (j - G) / G for j = 0..2G, G = 2^(b-1) - 1; the last one twice, to fill up 2^b
//   ternary             -1, 0, 1, 1, in 2 bits; times the scale where the whole matrix has one, and scales are 1
//   binary              -1, 1, in 1 bit: the sign of weight - mean of its block. Training has sign(0) = 0, for which there is no
//                       index: a weight that equals its block's mean becomes +scale, and is counted
//   int_asym, b bits    0 .. 2^b - 1; the zero point of each block is beside its scale, u8 `zeros`
//   nf                  its levels; weights below 0 have scales of their own, bf16 `negative_scales`
// bitnet158 is ternary, with "activation_bits": 8 in quantization_config.json. Embeddings,
// norms, layers of ignore_names and the LM head stay dense. Where the head was trained quantized (an empty ignore_names), its
// dense weight is q(W).
#pragma once

#include <cstdint>
#include <filesystem>

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/packing.h"
#include "trainer/checkpoint.h"

namespace vkqat {

struct ExportOptions {
    DType dtype = DType::bf16;    // of what is not packed: bf16, f16 or f32
    bool five_to_a_byte = false;  // ternary weights: 1.6 bits instead of 2. Error of other quantizers
    uint64_t max_shard_bytes = default_shard_bytes;
};

struct ExportResult {
    uint64_t packed_layers = 0, packed_bytes = 0, dense_bytes = 0;
    uint64_t zero_signs = 0;  // binary: weights that equal their block's mean
};

// A weight f32 [out, in] as the quantizer has it, packed. centroids: those of the layer for `nonlinear`, otherwise empty.
// Adds to *zero_signs. Error naming the layer: a block that does not divide it, a row that is no whole number of bytes, a
// weight that is not finite.
PackedWeight pack_layer(std::span<const float> weight, int64_t out, int64_t in, const QuantizerConfig& config,
                        std::span<const float> centroids, const std::string& layer, uint64_t* zero_signs = nullptr);

// The tensors of a packed layer, of rows of `row_bytes` in `blocks` blocks; what one of them holds.
std::vector<TensorInfo> packed_tensors(const std::string& layer, int64_t out, int64_t row_bytes, int64_t blocks,
                                       int64_t centroids, const QuantizerConfig& config);
std::span<const std::byte> packed_bytes(const PackedWeight& weight, std::string_view tensor);

// Writes a new directory: packed if quantization was on at the checkpoint, full precision otherwise. Error if `directory` exists;
// nothing half-written stays.
ExportResult export_model(const Checkpoint& checkpoint, const std::filesystem::path& directory, const ExportOptions& options);

}  // namespace vkqat

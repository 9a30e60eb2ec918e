#include "trainer/export.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <thread>
#include <unordered_map>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "trainer/onebit.h"

namespace vkqat {
namespace fs = std::filesystem;

namespace {

// The table of a quantizer that has none of its own.
std::vector<float> level_table(const QuantizerConfig& config) {
    if (config.kind == QuantizerKind::binary) return {-1, 1};
    if (config.kind == QuantizerKind::ternary) return {-1, 0, 1, 1};
    if (config.asymmetric()) return asymmetric_table(config);
    const int grid = (1 << (config.bits - 1)) - 1;
    std::vector<float> table;
    for (int j = -grid; j <= grid; j++) table.push_back(float(j) / float(grid));
    table.push_back(1);
    return table;
}

int packed_bits(const QuantizerConfig& config) {
    if (config.kind == QuantizerKind::binary) return 1;
    return config.kind == QuantizerKind::ternary ? 2 : config.bits;
}

// Mean of a row of blocks' parts, summed as the weights lie.
double block_sum(const float* values, int64_t rows, int64_t cols, int64_t stride) {
    double sum = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) sum += double(values[r * stride + c]);
    return sum;
}

// The scales of a row of blocks [block_rows, in] -> [in / block_cols].
std::vector<float> scales_of(std::span<const float> rows, const BlockLayout& blocks, int64_t in, ScaleStatistic statistic) {
    if (blocks.block_rows == 1) return block_scales(rows, in, blocks.block_cols, statistic);
    std::vector<float> together;  // a block's values behind one another
    together.reserve(rows.size());
    for (int64_t b = 0; b < blocks.cols; b++)
        for (int64_t r = 0; r < blocks.block_rows; r++) {
            auto part = rows.subspan(size_t(r * in + b * blocks.block_cols), size_t(blocks.block_cols));
            together.insert(together.end(), part.begin(), part.end());
        }
    const int64_t size = blocks.block_rows * blocks.block_cols;
    return block_scales(together, size, size, statistic);
}

// A row of blocks [block_rows, in] of any quantizer but `nonlinear`.
PackedWeight pack_levels(std::span<const float> rows, const BlockLayout& blocks, int64_t in, const QuantizerConfig& config,
                         const std::vector<float>& scales, uint64_t& zero_signs) {
    PackedWeight result{.out = blocks.block_rows, .in = in, .block_size = blocks.block_cols, .bits = packed_bits(config)};
    std::vector<uint8_t> indices(rows.size());
    for (int64_t b = 0; b < blocks.cols; b++) {
        const float scale = scales[size_t(b)];
        const int grid = config.kind == QuantizerKind::sym_int ? (1 << (config.bits - 1)) - 1 : 1;
        const float step = scale / float(grid);
        const float* first = rows.data() + b * blocks.block_cols;
        float mean = 0;
        if (config.kind == QuantizerKind::binary)
            mean =
                float(block_sum(first, blocks.block_rows, blocks.block_cols, in) / double(blocks.block_rows * blocks.block_cols));
        for (int64_t r = 0; r < blocks.block_rows; r++)
            for (int64_t c = 0; c < blocks.block_cols; c++) {
                const float w = first[r * in + c];
                uint8_t& index = indices[size_t(r * in + b * blocks.block_cols + c)];
                if (config.kind == QuantizerKind::binary) {
                    index = w >= mean;
                    zero_signs += w == mean;
                } else {
                    index = uint8_t(int(std::nearbyint(std::clamp(w / step, float(-grid), float(grid)))) + grid);
                }
            }
    }
    result.packed = pack_indices(indices, in, result.bits);
    for (int64_t r = 0; r < blocks.block_rows; r++)
        for (float scale : scales) result.scales.push_back(f32_to_bf16(scale));
    return result;
}

std::vector<uint16_t> rounded(std::span<const float> scales) {
    std::vector<uint16_t> result;
    for (float scale : scales) result.push_back(f32_to_bf16(scale));
    return result;
}

PackedWeight pack_asymmetric(std::span<const float> rows, const BlockLayout& blocks, int64_t in, const QuantizerConfig& config) {
    AsymmetricIndices chosen = asymmetric_indices(rows, blocks.block_rows, in, config, "weight");
    PackedWeight result{.out = blocks.block_rows, .in = in, .block_size = blocks.block_cols, .bits = config.bits};
    result.packed = pack_indices(chosen.indices, in, result.bits);
    result.scales = rounded(chosen.scales);
    result.zeros = std::move(chosen.zeros);
    result.negative_scales = rounded(chosen.negative_scales);
    return result;
}

PackedWeight pack_rows(std::span<const float> rows, const BlockLayout& blocks, int64_t in, const QuantizerConfig& config,
                       std::span<const float> centroids, uint64_t& zero_signs) {
    if (config.asymmetric()) return pack_asymmetric(rows, blocks, in, config);
    if (config.kind == QuantizerKind::nonlinear && blocks.block_rows == 1)
        return quantize_and_pack(rows, 1, in, blocks.block_cols, centroids, config.scale);
    const std::vector<float> scales = scales_of(rows, blocks, in, config.scale);
    if (config.kind != QuantizerKind::nonlinear) return pack_levels(rows, blocks, in, config, scales, zero_signs);
    // Blocks of several rows: scaled here, so that what is left to quantize_and_pack has scale 1.
    std::vector<float> scaled(rows.begin(), rows.end());
    for (size_t i = 0; i < scaled.size(); i++) scaled[i] /= scales[i % size_t(in) / size_t(blocks.block_cols)];
    PackedWeight result = quantize_and_pack(scaled, blocks.block_rows, in, blocks.block_cols, centroids, ScaleStatistic::none);
    for (size_t i = 0; i < result.scales.size(); i++) result.scales[i] = f32_to_bf16(scales[i % scales.size()]);
    return result;
}

// Where a tensor comes from, and what becomes of it.
struct Source {
    std::string layer;  // name without .weight
    int64_t out = 0, in = 0;
    bool quantized = false, packed = false, onebit = false;
    std::vector<float> centroids;
};

}  // namespace

PackedWeight pack_layer(std::span<const float> weight, int64_t out, int64_t in, const QuantizerConfig& config,
                        std::span<const float> centroids, const std::string& layer, uint64_t* zero_signs) {
    const BlockLayout blocks = block_layout(config, out, in, layer);
    in_context(layer, [&] { packed_row_bytes(in, packed_bits(config)); });
    if (weight.size() != size_t(out * in)) fail("{}: {} weights are no [{}, {}]", layer, weight.size(), out, in);
    const size_t row_elements = size_t(blocks.block_rows * in);  // of a row of blocks
    std::vector<PackedWeight> parts(static_cast<size_t>(blocks.rows));
    std::vector<uint64_t> zeros(parts.size(), 0);
    std::atomic<size_t> next = 0;
    std::exception_ptr error;
    std::atomic_flag failed;
    auto work = [&] {
        try {
            for (size_t i; (i = next++) < parts.size();)
                parts[i] = pack_rows(weight.subspan(i * row_elements, row_elements), blocks, in, config, centroids, zeros[i]);
        } catch (...) {
            if (!failed.test_and_set()) error = std::current_exception();
            next = parts.size();
        }
    };
    {
        std::vector<std::jthread> helpers;
        const size_t threads = std::min<size_t>(std::max(1u, std::thread::hardware_concurrency()), weight.size() / 65536 + 1);
        for (size_t t = 1; t < threads; t++) helpers.emplace_back(work);
        work();
    }
    if (error) in_context(layer, [&] { std::rethrow_exception(error); });

    PackedWeight result{.out = out, .in = in, .block_size = blocks.block_cols, .bits = packed_bits(config)};
    for (const PackedWeight& part : parts) {
        result.packed.insert(result.packed.end(), part.packed.begin(), part.packed.end());
        result.scales.insert(result.scales.end(), part.scales.begin(), part.scales.end());
        result.zeros.insert(result.zeros.end(), part.zeros.begin(), part.zeros.end());
        result.negative_scales.insert(result.negative_scales.end(), part.negative_scales.begin(), part.negative_scales.end());
    }
    result.centroids =
        config.kind == QuantizerKind::nonlinear ? std::vector<float>(centroids.begin(), centroids.end()) : level_table(config);
    if (config.kind == QuantizerKind::ternary && blocks.blocks() == 1) {
        // One scale for the matrix: in the table, where it keeps its precision.
        const float scale = scales_of(weight, blocks, in, config.scale)[0];
        result.centroids = {-scale, 0, scale, scale};
        result.scales.assign(result.scales.size(), f32_to_bf16(1));
    }
    if (zero_signs)
        for (uint64_t n : zeros) *zero_signs += n;
    return result;
}

std::vector<TensorInfo> packed_tensors(const std::string& layer, int64_t out, int64_t row_bytes, int64_t blocks,
                                       int64_t centroids, const QuantizerConfig& config) {
    std::vector<TensorInfo> tensors{{layer + ".weight_packed", DType::u8, {out, row_bytes}},
                                    {layer + ".scales", DType::bf16, {out, blocks}},
                                    {layer + ".centroids", DType::f32, {centroids}}};
    if (config.kind == QuantizerKind::int_asym) tensors.push_back({layer + ".zeros", DType::u8, {out, blocks}});
    if (config.kind == QuantizerKind::nf) tensors.push_back({layer + ".negative_scales", DType::bf16, {out, blocks}});
    return tensors;
}

std::span<const std::byte> packed_bytes(const PackedWeight& weight, std::string_view tensor) {
    if (tensor.ends_with(".weight_packed")) return std::as_bytes(std::span(weight.packed));
    if (tensor.ends_with(".centroids")) return std::as_bytes(std::span(weight.centroids));
    if (tensor.ends_with(".zeros")) return std::as_bytes(std::span(weight.zeros));
    if (tensor.ends_with(".negative_scales")) return std::as_bytes(std::span(weight.negative_scales));
    return std::as_bytes(std::span(weight.scales));
}

ExportResult export_model(const Checkpoint& checkpoint, const fs::path& directory, const ExportOptions& options) {
    if (!is_float(options.dtype)) fail("--dtype: expected bf16, f16 or f32, found {}", name(options.dtype));
    if (has_file(directory)) fail("{}: exists already; choose another name or remove it", directory.string());
    const TrainConfig& config = checkpoint.config();
    const QuantizerConfig quantizer = quantizer_config(config);
    const bool quantize = checkpoint.state().quantized && quantizer.kind != QuantizerKind::none;
    if (options.five_to_a_byte && !(quantize && quantizer.kind == QuantizerKind::ternary))
        fail("{}: only ternary weights can lie five to a byte, and these are quantized by {}", checkpoint.folder().string(),
             quantize ? name(quantizer.kind) : "none");
    ExportResult result;

    std::vector<TensorInfo> tensors;
    std::unordered_map<std::string, Source> sources;  // by the name of each tensor
    ModelSettings settings{.config = checkpoint.model()};
    settings.config.torch_dtype = options.dtype == DType::f32 ? "float32" : options.dtype == DType::f16 ? "float16" : "bfloat16";
    const std::string& norm = config.quantization.bitlinear_norm;
    const std::string bitlinear_norm = quantizes_activations(config) && norm != "none" ? norm : "";
    const bool onebit = quantizer.kind == QuantizerKind::onebit;
    if (onebit && !quantize) fail("{}: quantization is not on yet", checkpoint.folder().string());
    for (const Parameter& p : llama_parameters(checkpoint.model(), quantize, config.quantization.ignore_names)) {
        Source from{.layer = p.layer_name(), .quantized = p.quantized, .packed = p.quantized && p.layer >= 0};
        TensorInfo dense{.name = p.name, .dtype = options.dtype};
        for (int d = 0; d < p.shape.rank(); d++) dense.shape.push_back(p.shape[d]);
        if (const TensorView& stored = checkpoint.weights().get(p.name); stored.shape != dense.shape)
            fail("{}: tensor '{}': expected {}, found {}", checkpoint.weights().path().string(), p.name, shape_text(dense.shape),
                 shape_text(stored.shape));
        if (p.quantized && onebit) {
            from.onebit = true;
            from.out = p.shape[0];
            from.in = p.shape[1];
            in_context(from.layer, [&] { packed_row_bytes(from.in, 1); });
            settings.quantization = QuantizationConfig{.quant_method = std::string(name(quantizer.kind)), .bits = 1};
            for (TensorInfo info : {TensorInfo{from.layer + ".weight", DType::i8, {from.out, from.in / 8}},
                                    TensorInfo{from.layer + ".weight_scale", DType::f16, {from.out}},
                                    TensorInfo{from.layer + ".input_factor", DType::f16, {from.in}}}) {
                result.packed_bytes += uint64_t(byte_size(info));
                sources.emplace(info.name, from);
                tensors.push_back(std::move(info));
            }
            result.packed_layers++;
            continue;
        }
        if (p.quantized) {
            from.out = p.shape[0];
            from.in = p.shape[1];
            if (quantizer.kind == QuantizerKind::nonlinear) {
                const TensorView* centroids = checkpoint.centroids(from.layer);
                if (!centroids) fail("{}: has no centroids of {}", checkpoint.folder().string(), from.layer);
                from.centroids = read_floats(*centroids);
                if (int64_t(from.centroids.size()) != quantizer.centroids())
                    fail("{}: {}: expected {} centroids, found {}", checkpoint.folder().string(), from.layer,
                         quantizer.centroids(), from.centroids.size());
            } else {
                from.centroids = level_table(quantizer);
            }
        }
        if (!from.packed) {
            result.dense_bytes += uint64_t(byte_size(dense));
            sources.emplace(dense.name, from);
            tensors.push_back(std::move(dense));
            continue;
        }
        const BlockLayout blocks = block_layout(quantizer, from.out, from.in, from.layer);
        const int bits = packed_bits(quantizer);
        int64_t row_bytes = in_context(from.layer, [&] { return packed_row_bytes(from.in, bits); });
        if (options.five_to_a_byte) row_bytes = ternary_row_bytes(from.in);
        if (!settings.quantization)
            settings.quantization = QuantizationConfig{.quant_method = std::string(name(quantizer.kind)),
                                                       .bits = bits,
                                                       .block_size = quantizer.block_dim_2,
                                                       .relative_scale = std::string(name(quantizer.scale)),
                                                       .num_centroids = int(from.centroids.size()),
                                                       .centroids = from.centroids,
                                                       .packing = bits == 3                ? std::string(packing_dense_msb_first)
                                                                  : options.five_to_a_byte ? std::string(packing_ternary)
                                                                                           : "",
                                                       .activation_bits = quantizes_activations(config) ? 8 : 0,
                                                       .bitlinear_norm = bitlinear_norm};
        for (TensorInfo& info :
             packed_tensors(from.layer, from.out, row_bytes, blocks.cols, int64_t(from.centroids.size()), quantizer)) {
            result.packed_bytes += uint64_t(byte_size(info));
            sources.emplace(info.name, from);
            tensors.push_back(std::move(info));
        }
        result.packed_layers++;
    }

    const fs::path generation = checkpoint.folder() / "generation_config.json";
    if (has_file(generation)) {
        settings.generation = read_generation_config(checkpoint.folder());
    } else {
        settings.generation =
            GenerationConfig{.bos_token_id = settings.config.bos_token_id, .eos_token_ids = settings.config.eos_token_ids};
    }
    for (const auto& entry : fs::directory_iterator(checkpoint.tokenizer())) settings.copies.push_back(entry.path());
    std::sort(settings.copies.begin(), settings.copies.end());

    auto source = [&](const TensorInfo& tensor, const TensorSink& sink) {
        const Source& from = sources.at(tensor.name);
        auto stored = [&](const char* part) { return read_floats(checkpoint.weights().get(from.layer + part)); };
        if (from.onebit) {
            if (tensor.name.ends_with(".weight_scale")) return sink(to_bytes(stored(".output_factor"), tensor.dtype));
            if (tensor.name.ends_with(".input_factor")) return sink(to_bytes(stored(".input_factor"), tensor.dtype));
            return sink(std::as_bytes(std::span<const uint8_t>(pack_signs(stored(".weight"), from.in))));
        }
        if (tensor.name.ends_with(".centroids") && quantizer.kind != QuantizerKind::ternary)
            return sink(std::as_bytes(std::span(from.centroids)));
        const std::vector<float> weight = stored(".weight");
        if (!from.quantized) return sink(to_bytes(weight, options.dtype));
        if (!from.packed && quantizer.asymmetric())
            return sink(to_bytes(asymmetric_values(weight, from.out, from.in, quantizer, from.layer), options.dtype));
        // Scales and indices are asked for one after the other, layers apart: each is made when it is due, none is kept.
        uint64_t zeros = 0;
        PackedWeight packed = pack_layer(weight, from.out, from.in, quantizer, from.centroids, from.layer, &zeros);
        if (!from.packed) return sink(to_bytes(dequantize(packed), options.dtype));
        if (tensor.name.ends_with(".weight_packed")) result.zero_signs += zeros;
        if (options.five_to_a_byte && from.packed)
            packed.packed = pack_ternary(unpack_indices(packed.packed, from.in, 2), from.in);
        sink(packed_bytes(packed, tensor.name));
    };
    write_model_directory(directory, settings, std::move(tensors), source, options.max_shard_bytes);
    return result;
}

}  // namespace vkqat

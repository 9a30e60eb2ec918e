#include "runtime/formats/packing.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

constexpr std::pair<std::string_view, ScaleStatistic> statistic_names[] = {{"none", ScaleStatistic::none},
                                                                           {"absmax", ScaleStatistic::absmax},
                                                                           {"absmean", ScaleStatistic::absmean},
                                                                           {"rms", ScaleStatistic::rms}};

// Returns log2 of the table's length.
int check_centroids(std::string_view where, std::span<const float> centroids) {
    int bits = centroids.empty() ? 0 : int(std::bit_width(centroids.size())) - 1;
    if (!is_packed_bits(bits) || centroids.size() != size_t(1) << bits) {
        fail("{}: expected 2, 4, 8, 16 or 256 centroids, found {}", where, centroids.size());
    }
    for (size_t i = 0; i < centroids.size(); ++i) {
        if (!std::isfinite(centroids[i])) fail("{}: centroid {} is {}, expected a finite number", where, i, centroids[i]);
        if (i > 0 && centroids[i] < centroids[i - 1]) {
            fail("{}: centroids are not sorted: number {} is {}, after {}", where, i, centroids[i], centroids[i - 1]);
        }
    }
    return bits;
}

// At most 512 values, added in float in the order of the published exporter's framework: 32 partial sums, then the four of
// each of eight lanes, then the lanes. An index near a boundary depends on the last bit of the scale.
float sum_of_chunk(std::span<const float> values) {
    float partial[32] = {}, total = 0;
    size_t i = 0;
    for (; i + 32 <= values.size(); i += 32) {
        for (size_t k = 0; k < 32; ++k) partial[k] += values[i + k];
    }
    for (; i + 8 <= values.size(); i += 8) {
        for (size_t k = 0; k < 8; ++k) partial[k] += values[i + k];
    }
    for (; i < values.size(); ++i) total += values[i];
    for (size_t k = 0; k < 8; ++k) total += ((partial[k] + partial[8 + k]) + partial[16 + k]) + partial[24 + k];
    return total;
}

double sum(std::span<const float> values) {
    double total = 0;
    for (size_t i = 0; i < values.size(); i += 512)
        total += sum_of_chunk(values.subspan(i, std::min<size_t>(512, values.size() - i)));
    return total;
}

// Error unless all are finite.
void check_scales(std::string_view where, std::string_view part, const TensorView& scales) {
    for (size_t i = 0; i < scales.bytes.size(); i += 2) {
        uint16_t scale;
        std::memcpy(&scale, scales.bytes.data() + i, 2);
        if ((scale & 0x7f80) == 0x7f80) {
            const auto blocks = size_t(scales.shape[1]);
            fail("{}: {}: number {} in row {} is {}, expected finite numbers", where, part, i / 2 % blocks, i / 2 / blocks,
                 bf16_to_f32(scale));
        }
    }
}

std::vector<uint16_t> read_halves(const TensorView& tensor) {
    std::vector<uint16_t> values(tensor.bytes.size() / 2);
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    return values;
}

}  // namespace

bool is_packed_bits(int64_t bits) { return bits == 1 || bits == 2 || bits == 3 || bits == 4 || bits == 8; }

int64_t packed_row_bytes(int64_t in, int bits) {
    if (!is_packed_bits(bits)) fail("packing: expected 1, 2, 3, 4 or 8 bits, found {}", bits);
    if (in < 1 || in > INT64_MAX / 8 || in * bits % 8 != 0) {
        fail("packing: a row of {} indices of {} bits is no whole number of bytes", in, bits);
    }
    return in * bits / 8;
}

std::vector<uint8_t> pack_indices(std::span<const uint8_t> indices, int64_t in, int bits) {
    int64_t row_bytes = packed_row_bytes(in, bits);
    if (indices.size() % size_t(in) != 0) fail("packing: {} indices are no whole number of rows of {}", indices.size(), in);
    std::vector<uint8_t> packed;
    packed.reserve(indices.size() / size_t(in) * size_t(row_bytes));
    uint32_t pending = 0;  // rows are whole bytes, so nothing is pending at their ends
    int pending_bits = 0;
    for (size_t i = 0; i < indices.size(); ++i) {
        if (indices[i] >> bits) fail("packing: index {} at element {} does not fit in {} bits", indices[i], i, bits);
        pending = pending << bits | indices[i];
        pending_bits += bits;
        if (pending_bits >= 8) {
            pending_bits -= 8;
            packed.push_back(uint8_t(pending >> pending_bits));
        }
    }
    return packed;
}

std::vector<uint8_t> unpack_indices(std::span<const uint8_t> packed, int64_t in, int bits) {
    int64_t row_bytes = packed_row_bytes(in, bits);
    if (packed.size() % size_t(row_bytes) != 0)
        fail("packing: {} bytes are no whole number of rows of {}", packed.size(), row_bytes);
    std::vector<uint8_t> indices;
    indices.reserve(packed.size() / size_t(row_bytes) * size_t(in));
    uint32_t pending = 0;
    int pending_bits = 0;
    for (uint8_t byte : packed) {
        pending = pending << 8 | byte;
        pending_bits += 8;
        while (pending_bits >= bits) {
            pending_bits -= bits;
            indices.push_back(uint8_t(pending >> pending_bits & ((1u << bits) - 1)));
        }
    }
    return indices;
}

int64_t ternary_row_bytes(int64_t in) {
    if (in < 1 || in > INT64_MAX / 8) fail("packing: a row of {} ternary indices", in);
    return (in + 4) / 5;
}

std::vector<uint8_t> pack_ternary(std::span<const uint8_t> indices, int64_t in) {
    const auto row_bytes = size_t(ternary_row_bytes(in)), columns = size_t(in);
    if (indices.size() % columns != 0) fail("packing: {} indices are no whole number of rows of {}", indices.size(), in);
    std::vector<uint8_t> packed(indices.size() / columns * row_bytes, 0);
    for (size_t i = 0; i < indices.size(); ++i) {
        constexpr uint8_t places[] = {1, 3, 9, 27, 81};
        if (indices[i] > 2) fail("packing: index {} at element {} is not ternary", indices[i], i);
        const size_t column = i % columns;
        packed[i / columns * row_bytes + column / 5] += uint8_t(indices[i] * places[column % 5]);
    }
    return packed;
}

std::vector<uint8_t> unpack_ternary(std::span<const uint8_t> packed, int64_t in) {
    const auto row_bytes = size_t(ternary_row_bytes(in));
    if (packed.size() % row_bytes != 0) fail("packing: {} bytes are no whole number of rows of {}", packed.size(), row_bytes);
    std::vector<uint8_t> indices;
    indices.reserve(packed.size() / row_bytes * size_t(in));
    for (size_t i = 0; i < packed.size(); ++i) {
        uint32_t digits = packed[i];
        if (digits > 242) fail("packing: byte {} is {}, expected at most 242 (five ternary digits)", i, digits);
        const size_t left = size_t(in) - i % row_bytes * 5;
        for (size_t k = 0; k < std::min<size_t>(left, 5); ++k, digits /= 3) indices.push_back(uint8_t(digits % 3));
    }
    return indices;
}

std::string_view name(ScaleStatistic statistic) { return statistic_names[size_t(statistic)].first; }

ScaleStatistic parse_scale_statistic(std::string_view text) {
    for (auto [key, statistic] : statistic_names) {
        if (key == text) return statistic;
    }
    fail("scale '{}' is unknown; expected none, absmax, absmean or rms", printable(text));
}

std::vector<float> block_scales(std::span<const float> weight, int64_t in, int64_t block_size, ScaleStatistic statistic) {
    if (block_size < 1 || in < 1 || in % block_size != 0) {
        fail("a block of {} does not divide a row of {} inputs", block_size, in);
    }
    if (weight.size() % size_t(in) != 0) fail("{} weights are no whole number of rows of {}", weight.size(), in);
    std::vector<float> scales(weight.size() / size_t(block_size));
    std::vector<float> terms(static_cast<size_t>(block_size));
    for (size_t b = 0; b < scales.size(); ++b) {
        std::span<const float> block = weight.subspan(b * size_t(block_size), size_t(block_size));
        for (size_t i = 0; i < block.size(); ++i) {
            if (!std::isfinite(block[i])) {
                fail("a weight in row {} is {}, expected finite numbers", int64_t(b) * block_size / in, block[i]);
            }
            terms[i] = statistic == ScaleStatistic::rms ? block[i] * block[i] : std::abs(block[i]);
        }
        float scale = 1;
        if (statistic == ScaleStatistic::absmax) scale = *std::ranges::max_element(terms);
        if (statistic == ScaleStatistic::absmean) scale = float(sum(terms) / double(block_size));
        if (statistic == ScaleStatistic::rms) scale = std::sqrt(float(sum(terms) / double(block_size)));
        scales[b] = std::max(1e-5f, scale);
    }
    return scales;
}

PackedWeight quantize_and_pack(std::span<const float> weight, int64_t out, int64_t in, int64_t block_size,
                               std::span<const float> centroids, ScaleStatistic statistic) {
    PackedWeight result{.out = out, .in = in, .block_size = block_size, .bits = check_centroids("quantize", centroids)};
    packed_row_bytes(in, result.bits);
    if (out < 1 || weight.size() / size_t(in) != size_t(out) || weight.size() % size_t(in) != 0) {
        fail("quantize: {} weights are no [{}, {}]", weight.size(), out, in);
    }
    std::vector<float> scales = block_scales(weight, in, block_size, statistic);
    std::vector<float> boundaries;
    for (size_t i = 0; i + 1 < centroids.size(); ++i) boundaries.push_back((centroids[i] + centroids[i + 1]) / 2);
    std::vector<uint8_t> indices(weight.size());
    for (size_t i = 0; i < weight.size(); ++i) {
        float u = weight[i] / scales[i / size_t(block_size)];
        indices[i] = uint8_t(std::ranges::lower_bound(boundaries, u) - boundaries.begin());
    }
    result.packed = pack_indices(indices, in, result.bits);
    for (float scale : scales) result.scales.push_back(f32_to_bf16(scale));
    result.centroids.assign(centroids.begin(), centroids.end());
    return result;
}

std::optional<PackedLinear> find_packed_linear(const ModelFiles& model, std::string_view prefix, int64_t out, int64_t in) {
    PackedLinear layer{.out = out, .in = in};
    std::pair<const char*, const TensorView**> parts[] = {
        {"weight_packed", &layer.weight_packed}, {"scales", &layer.scales}, {"centroids", &layer.centroids}};
    constexpr DType dtypes[] = {DType::u8, DType::bf16, DType::f32};
    for (auto& [part, tensor] : parts) *tensor = model.find(fmt::format("{}.{}", prefix, part));
    if (!layer.weight_packed && !layer.scales && !layer.centroids) return std::nullopt;

    std::string where = fmt::format("{}: layer '{}'", model.directory().string(), printable(prefix));
    for (size_t i = 0; i < 3; ++i) {
        auto [part, tensor] = parts[i];
        if (!*tensor) fail("{}: the tensor {} is missing; a packed layer has weight_packed, scales and centroids", where, part);
        if ((*tensor)->dtype != dtypes[i]) {
            fail("{}: {}: expected {}, found {}", where, part, name(dtypes[i]), name((*tensor)->dtype));
        }
    }
    if (model.find(fmt::format("{}.weight", prefix))) fail("{}: has both weight and weight_packed", where);
    if (layer.centroids->shape.size() != 1) {
        fail("{}: centroids: expected a list, found shape {}", where, shape_text(layer.centroids->shape));
    }
    if (layer.centroids->shape[0] > 256) fail("{}: centroids: expected at most 256, found {}", where, layer.centroids->shape[0]);
    layer.bits = check_centroids(where, read_floats(*layer.centroids));
    if (layer.bits == 3 && (!model.quantization() || model.quantization()->packing != packing_dense_msb_first)) {
        fail("{}: 3 bits are packed in an unknown way; expected quantization_config.json to say \"packing\": \"{}\"", where,
             packing_dense_msb_first);
    }
    layer.ternary = layer.bits == 2 && model.quantization() && model.quantization()->packing == packing_ternary;
    int64_t row_bytes = in_context(where, [&] { return packed_row_bytes(in, layer.bits); });
    if (layer.ternary) row_bytes = ternary_row_bytes(in);
    if (layer.weight_packed->shape != std::vector<int64_t>{out, row_bytes}) {
        fail("{}: weight_packed: expected [{}, {}] ({} inputs of {} bits), found {}", where, out, row_bytes, in, layer.bits,
             shape_text(layer.weight_packed->shape));
    }
    const std::vector<int64_t>& blocks = layer.scales->shape;
    if (blocks.size() != 2 || blocks[0] != out || blocks[1] < 1 || in % blocks[1] != 0) {
        fail("{}: scales: expected [{}, a divisor of {}], found {}", where, out, in, shape_text(blocks));
    }
    layer.block_size = in / blocks[1];
    check_scales(where, "scales", *layer.scales);
    layer.zeros = model.find(fmt::format("{}.zeros", prefix));
    layer.negative_scales = model.find(fmt::format("{}.negative_scales", prefix));
    if (layer.zeros && layer.negative_scales) fail("{}: has both zeros and negative_scales; expected one of them at most", where);
    auto check_like_scales = [&](const TensorView* tensor, std::string_view part, DType dtype) {
        if (!tensor) return;
        if (tensor->dtype != dtype) fail("{}: {}: expected {}, found {}", where, part, name(dtype), name(tensor->dtype));
        if (tensor->shape != blocks)
            fail("{}: {}: expected {}, as the scales, found {}", where, part, shape_text(blocks), shape_text(tensor->shape));
    };
    check_like_scales(layer.zeros, "zeros", DType::u8);
    check_like_scales(layer.negative_scales, "negative_scales", DType::bf16);
    if (layer.negative_scales) check_scales(where, "negative_scales", *layer.negative_scales);
    return layer;
}

PackedWeight load(const PackedLinear& layer) {
    PackedWeight weight{.out = layer.out, .in = layer.in, .block_size = layer.block_size, .bits = layer.bits};
    weight.packed.resize(layer.weight_packed->bytes.size());
    std::memcpy(weight.packed.data(), layer.weight_packed->bytes.data(), weight.packed.size());
    if (layer.ternary) weight.packed = pack_indices(unpack_ternary(weight.packed, layer.in), layer.in, 2);
    weight.scales = read_halves(*layer.scales);
    if (layer.negative_scales) weight.negative_scales = read_halves(*layer.negative_scales);
    if (layer.zeros) {
        weight.zeros.resize(layer.zeros->bytes.size());
        std::memcpy(weight.zeros.data(), layer.zeros->bytes.data(), weight.zeros.size());
    }
    weight.centroids = read_floats(*layer.centroids);
    return weight;
}

std::vector<float> dequantize(const PackedWeight& weight) {
    std::vector<uint8_t> indices = unpack_indices(weight.packed, weight.in, weight.bits);
    std::vector<float> values(indices.size());
    for (size_t i = 0; i < indices.size(); ++i) {
        const size_t block = i / size_t(weight.block_size);
        const float centroid = weight.centroids[indices[i]] - (weight.zeros.empty() ? 0.f : float(weight.zeros[block]));
        const bool negative = !weight.negative_scales.empty() && centroid < 0;
        values[i] = centroid * bf16_to_f32(negative ? weight.negative_scales[block] : weight.scales[block]);
    }
    return values;
}

}  // namespace vkqat

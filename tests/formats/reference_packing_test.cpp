// The published exporter's bytes: packing.safetensors and the tiny-kmeans-* directories.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <regex>

#include "runtime/formats/packing.h"
#include "runtime/formats/rope_layout.h"
#include "tests/formats/fixtures.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

template <class T>
bool same_bytes(std::span<const std::byte> expected, const std::vector<T>& found) {
    return expected.size() == found.size() * sizeof(T) && std::memcmp(expected.data(), found.data(), expected.size()) == 0;
}

TEST(ReferencePacking, BytesAndScalesOfEveryWidthAndStatistic) {
    SKIP_WITHOUT(reference_folder() / "packing.safetensors");
    SafetensorsFile file(reference_folder() / "packing.safetensors");
    const TensorView& w = file.get("w");
    std::vector<float> weight = read_floats(w);
    std::regex pattern(R"(b(\d+)\.(\w+)\.packed)");
    int cases = 0;
    for (const TensorView& tensor : file.tensors()) {
        std::smatch match;
        if (!std::regex_match(tensor.name, match, pattern)) continue;
        std::string prefix = tensor.name.substr(0, tensor.name.rfind('.') + 1);
        SCOPED_TRACE(prefix);
        ++cases;
        const TensorView& scales = file.get(prefix + "scales_bf16");
        int64_t out = w.shape[0], in = w.shape[1], block = in / scales.shape[1];
        PackedWeight packed = quantize_and_pack(weight, out, in, block, read_floats(file.get(prefix + "centroids")),
                                                parse_scale_statistic(match[2].str()));
        EXPECT_EQ(packed.bits, std::stoi(match[1]));
        EXPECT_TRUE(same_bytes(tensor.bytes, packed.packed));
        EXPECT_TRUE(same_bytes(scales.bytes, packed.scales));
        EXPECT_TRUE(same_bytes(tensor.bytes, pack_indices(unpack_indices(packed.packed, in, packed.bits), in, packed.bits)));

        // y = x W^T. Summed in double here and in float there: 1e-5 of the largest output, the bound for fp32 paths.
        std::vector<float> x = read_floats(file.get(prefix + "x")), y = read_floats(file.get(prefix + "y")),
                           values = dequantize(packed);
        double largest = 0, error = 0;
        for (size_t i = 0; i < y.size(); ++i) {
            size_t token = i / size_t(out), row = i % size_t(out);
            double sum = 0;
            for (size_t k = 0; k < size_t(in); ++k) sum += double(x[token * size_t(in) + k]) * values[row * size_t(in) + k];
            largest = std::max(largest, std::abs(double(y[i])));
            error = std::max(error, std::abs(sum - y[i]));
        }
        EXPECT_LE(error, 1e-5 * largest);
    }
    EXPECT_GT(cases, 0);
}

// The quantized-dequantized weights hold centroid * scale before the scale is rounded: they show its last bit. One in a hundred
// may be a step of 2^-23 off (the reference's square root is), so blocks are counted.
TEST(ReferencePacking, ScalesInFullPrecision) {
    SKIP_WITHOUT(reference_folder() / "quantizers.safetensors");
    SafetensorsFile file(reference_folder() / "quantizers.safetensors");
    std::regex pattern(R"(kmeans\.b\d+\.(\w+)\.(\w+)\.centroids)");
    size_t blocks = 0, equal = 0;
    for (const TensorView& tensor : file.tensors()) {
        std::smatch match;
        if (!std::regex_match(tensor.name, match, pattern)) continue;
        const TensorView& w = file.get("w." + match[2].str());
        std::vector<float> weight = read_floats(w), centroids = read_floats(tensor);
        std::vector<float> expected = read_floats(file.get(tensor.name.substr(0, tensor.name.rfind('.'))));
        int64_t in = w.shape[1];
        size_t block = 64;
        ScaleStatistic statistic = parse_scale_statistic(match[1].str());
        std::vector<float> scales = block_scales(weight, in, int64_t(block), statistic);
        PackedWeight packed = quantize_and_pack(weight, w.shape[0], in, int64_t(block), centroids, statistic);
        std::vector<uint8_t> indices = unpack_indices(packed.packed, in, packed.bits);
        for (size_t b = 0; b < scales.size(); ++b, ++blocks) {
            bool same = true;
            for (size_t i = b * block; i < (b + 1) * block; ++i) {
                float value = centroids[indices[i]] * scales[b];
                same = same && value == expected[i];
                EXPECT_NEAR(value, expected[i], 1e-6 * std::abs(expected[i])) << tensor.name << " element " << i;
            }
            equal += same;
        }
    }
    EXPECT_GT(blocks, 0u);
    EXPECT_GE(double(equal), 0.98 * double(blocks));
}

TEST(ReferencePacking, RopePermutation) {
    SKIP_WITHOUT(reference_folder() / "packing.safetensors");
    SafetensorsFile file(reference_folder() / "packing.safetensors");
    const TensorView& interleaved = file.get("rope.interleaved");
    std::regex pattern(R"(rope\.split_(\d+)heads)");
    int cases = 0;
    for (const TensorView& split : file.tensors()) {
        std::smatch match;
        if (!std::regex_match(split.name, match, pattern)) continue;
        ++cases;
        int64_t heads = std::stoi(match[1]);
        EXPECT_TRUE(same_bytes(split.bytes, interleaved_to_split_halves(interleaved.bytes, interleaved.shape[0], heads)));
        EXPECT_TRUE(same_bytes(interleaved.bytes, split_halves_to_interleaved(split.bytes, split.shape[0], heads)));
    }
    EXPECT_GT(cases, 0);
}

struct Projection {
    const char* name;
    int64_t out, in;
};

std::vector<Projection> projections(const LlamaConfig& c) {
    return {{"self_attn.q_proj", c.q_dim(), c.hidden_size},        {"self_attn.k_proj", c.kv_dim(), c.hidden_size},
            {"self_attn.v_proj", c.kv_dim(), c.hidden_size},       {"self_attn.o_proj", c.hidden_size, c.q_dim()},
            {"mlp.gate_proj", c.intermediate_size, c.hidden_size}, {"mlp.up_proj", c.intermediate_size, c.hidden_size},
            {"mlp.down_proj", c.hidden_size, c.intermediate_size}};
}

std::vector<fs::path> tiny_models(std::string_view prefix) {
    std::vector<fs::path> result;
    for (const auto& entry : fs::directory_iterator(reference_folder())) {
        if (entry.is_directory() && entry.path().filename().string().starts_with(prefix)) result.push_back(entry.path());
    }
    return result;
}

TEST(ReferenceModelDirectory, PackedLayersUnpackAndRepackToTheSameBytes) {
    SKIP_WITHOUT(reference_folder());
    std::vector<fs::path> directories = tiny_models("tiny-kmeans-");
    ASSERT_FALSE(directories.empty());
    for (const fs::path& directory : directories) {
        SCOPED_TRACE(directory.filename().string());
        LlamaConfig config = read_llama_config(directory);
        ModelFiles model = ModelFiles::open(directory);
        ASSERT_TRUE(model.quantization());
        size_t used = 0;
        for (int64_t i = 0; i < config.layers; ++i) {
            for (auto [name, out, in] : projections(config)) {
                std::string prefix = fmt::format("model.layers.{}.{}", i, name);
                SCOPED_TRACE(prefix);
                std::optional<PackedLinear> layer = find_packed_linear(model, prefix, out, in);
                ASSERT_TRUE(layer);
                used += 3;
                EXPECT_EQ(layer->bits, model.quantization()->bits);
                EXPECT_EQ(layer->block_size, model.quantization()->block_size);
                EXPECT_EQ(layer->centroids->shape[0], model.quantization()->num_centroids);
                PackedWeight weight = load(*layer);
                std::vector<uint8_t> indices = unpack_indices(weight.packed, in, weight.bits);
                EXPECT_EQ(pack_indices(indices, in, weight.bits), weight.packed);
                std::vector<float> values = dequantize(weight);
                ASSERT_EQ(values.size(), size_t(out * in));
                for (size_t k = 0; k < values.size(); ++k) {
                    size_t row = k / size_t(in), column = k % size_t(in);
                    uint16_t scale;
                    std::memcpy(&scale,
                                layer->scales->bytes.data() +
                                    2 * (row * size_t(in / layer->block_size) + column / size_t(layer->block_size)),
                                2);
                    ASSERT_EQ(values[k], weight.centroids[indices[k]] * bf16_to_f32(scale));
                }
            }
        }
        used += 3 + 2 * size_t(config.layers);  // embedding, head, norms
        EXPECT_EQ(model.names().size(), used);
        int64_t vocab[] = {config.vocab_size, config.hidden_size};
        EXPECT_EQ(model.get("model.embed_tokens.weight", vocab).dtype, DType::bf16);
    }
}

TEST(ReferenceModelDirectory, WritingItAgainGivesTheSameTensors) {
    SKIP_WITHOUT(reference_folder());
    for (const fs::path& directory : tiny_models("tiny-")) {
        SCOPED_TRACE(directory.filename().string());
        ModelFiles model = ModelFiles::open(directory);
        ModelSettings settings{.config = read_llama_config(directory), .quantization = read_quantization_config(directory)};
        ScratchFolder scratch;
        for (uint64_t max_shard_bytes : {default_shard_bytes, uint64_t(100'000)}) {
            fs::path copy = scratch / fmt::format("copy{}", max_shard_bytes);
            std::vector<TensorInfo> infos;
            for (const std::string& name : model.names()) infos.push_back(model.get(name));
            write_model_directory(
                copy, settings, infos,
                [&](const TensorInfo& tensor, const TensorSink& sink) { sink(model.get(tensor.name).bytes); }, max_shard_bytes);
            EXPECT_EQ(read_llama_config(copy), settings.config);
            EXPECT_EQ(read_quantization_config(copy), settings.quantization);
            ModelFiles again = ModelFiles::open(copy);
            EXPECT_EQ(again.files().size() == 1, max_shard_bytes == default_shard_bytes);
            EXPECT_EQ(again.names().size(), model.names().size());
            for (const std::string& name : model.names()) {
                const TensorView &a = model.get(name), &b = again.get(name);
                EXPECT_EQ(a.dtype, b.dtype);
                EXPECT_EQ(a.shape, b.shape);
                EXPECT_TRUE(std::ranges::equal(a.bytes, b.bytes)) << name;
            }
            if (max_shard_bytes != default_shard_bytes) continue;
            // Unsharded, even the layout of the data is the reference library's.
            auto data = [](const fs::path& path) {
                std::string all = read_text_file(path / "model.safetensors");
                uint64_t header = 0;
                std::memcpy(&header, all.data(), 8);
                return all.substr(8 + header);
            };
            EXPECT_EQ(data(copy), data(directory));
        }
    }
}

TEST(ReferenceModelDirectory, ParametersAreTheElementsOfAFullPrecisionModel) {
    std::vector<fs::path> directories = {reference_folder() / "tiny-bf16", data_folder() / "stories260K"};
    int found = 0;
    for (const fs::path& directory : directories) {
        if (!fs::exists(directory)) continue;
        ++found;
        int64_t elements = 0;
        ModelFiles model = ModelFiles::open(directory);
        for (const std::string& name : model.names()) elements += element_count(model.get(name));
        EXPECT_EQ(read_llama_config(directory).parameters(), elements) << directory;
    }
    if (found == 0) GTEST_SKIP() << "neither " << directories[0] << " nor " << directories[1] << " is there";
}

}  // namespace
}  // namespace vkqat

// Export: what is written is what was trained.
#include "trainer/export.h"

#include <cmath>

#include "tests/support/reference.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::ScratchFolder;

struct Case {
    const char* name;
    QuantizerConfig config;
};
void PrintTo(const Case& c, std::ostream* to) { *to << c.name; }

std::vector<float> fitted(const QuantizerConfig& config) {
    std::vector<float> table;  // any sorted one will do
    for (int64_t i = 0; i < config.centroids(); i++)
        table.push_back(-2.1f + 4.3f * float(i) / float(config.centroids() - 1) + 0.005f * float(i % 3));
    return table;
}

class ExportLayer : public testing::TestWithParam<Case> {};

TEST_P(ExportLayer, UnpacksToWhatTheForwardPassUses) {
    const QuantizerConfig& config = GetParam().config;
    const int64_t out = 48, in = 192;
    std::vector<float> weight = test::normal(size_t(out * in), 3, 0.02f), centroids = fitted(config);
    Graph g(test::device());
    test::Tensors tensors(g);
    Tensor w = tensors.floats({out, in}, weight, "w"), q = tensors.poisoned({out, in}, "q");
    Tensor table = centroids.empty() ? Tensor() : tensors.floats({config.centroids()}, centroids, "centroids");
    quantize_weights(g, w, q, config, table, "layer");
    Executable(g, "quantize").run();
    const std::vector<float> trained = tensors.read(q);

    uint64_t zero_signs = 0;
    const PackedWeight packed = pack_layer(weight, out, in, config, centroids, "layer", &zero_signs);
    const std::vector<float> exported = dequantize(packed);
    ASSERT_EQ(exported.size(), trained.size());
    EXPECT_EQ(zero_signs, 0u);
    // bf16 keeps 8 bits: a scale moves by 2^-8 of itself at most, and the products are rounded in fp32. Another index would move
    // the value by more. The device sums scales in another order, so an index may differ where weight / scale lies within some
    // last bits of a boundary between two levels: one in a million or so, none among these.
    size_t other_index = 0;
    for (size_t i = 0; i < trained.size(); i++)
        other_index += std::abs(exported[i] - trained[i]) > std::abs(trained[i]) * (0x1p-8f + 0x1p-20f);
    EXPECT_EQ(other_index, 0u);
}

INSTANTIATE_TEST_SUITE_P(All, ExportLayer,
                         testing::Values(Case{"kmeans1", {QuantizerKind::nonlinear, 1, 1, 64, ScaleStatistic::absmean}},
                                         Case{"kmeans2", {QuantizerKind::nonlinear, 2, 1, 64, ScaleStatistic::absmean}},
                                         Case{"kmeans3", {QuantizerKind::nonlinear, 3, 1, 64, ScaleStatistic::rms}},
                                         Case{"kmeans4", {QuantizerKind::nonlinear, 4, 1, 64, ScaleStatistic::absmax}},
                                         Case{"kmeans8", {QuantizerKind::nonlinear, 8, 1, 32, ScaleStatistic::absmax}},
                                         Case{"kmeans2_blocks", {QuantizerKind::nonlinear, 2, 8, 24, ScaleStatistic::absmean}},
                                         Case{"kmeans2_tensor", {QuantizerKind::nonlinear, 2, 0, 0, ScaleStatistic::absmean}},
                                         Case{"kmeans2_unscaled", {QuantizerKind::nonlinear, 2, 1, 64, ScaleStatistic::none}},
                                         Case{"int2", {QuantizerKind::sym_int, 2, 1, 64, ScaleStatistic::absmean}},
                                         Case{"int3", {QuantizerKind::sym_int, 3, 1, 64, ScaleStatistic::absmax}},
                                         Case{"int4", {QuantizerKind::sym_int, 4, 1, 64, ScaleStatistic::absmax}},
                                         Case{"int8", {QuantizerKind::sym_int, 8, 1, 64, ScaleStatistic::absmax}},
                                         Case{"int4_rows", {QuantizerKind::sym_int, 4, 1, 0, ScaleStatistic::absmax}},
                                         Case{"int4_blocks", {QuantizerKind::sym_int, 4, 16, 64, ScaleStatistic::absmax}},
                                         Case{"ternary", {QuantizerKind::ternary, 2, 1, 64, ScaleStatistic::absmean}},
                                         Case{"ternary_tensor", {QuantizerKind::ternary, 2, 0, 0, ScaleStatistic::absmean}},
                                         Case{"binary", {QuantizerKind::binary, 1, 1, 64, ScaleStatistic::absmean}},
                                         Case{"binary_blocks", {QuantizerKind::binary, 1, 8, 32, ScaleStatistic::absmean}}),
                         [](const testing::TestParamInfo<Case>& c) { return std::string(c.param.name); });

TEST(ExportLayerErrors, NameTheLayer) {
    std::vector<float> weight(48 * 30, 1.f);
    QuantizerConfig config{QuantizerKind::nonlinear, 2, 1, 64, ScaleStatistic::absmean};
    EXPECT_CONTAINS(error_of([&] { pack_layer(weight, 48, 30, config, fitted(config), "some.layer"); }), "some.layer");
    config = {QuantizerKind::nonlinear, 3, 1, 0, ScaleStatistic::absmean};
    EXPECT_CONTAINS(error_of([&] { pack_layer(weight, 48, 30, config, fitted(config), "some.layer"); }), "whole number of bytes");
    config.bits = 2;
    weight.assign(48 * 32, 1.f);
    weight[40] = NAN;
    EXPECT_CONTAINS(error_of([&] { pack_layer(weight, 48, 32, config, fitted(config), "some.layer"); }), "some.layer");
}

TEST(ExportLayerErrors, BinaryCountsWeightsWithoutASign) {
    std::vector<float> weight(16, 0.f);
    weight[0] = 1;
    weight[1] = -1;
    QuantizerConfig config{QuantizerKind::binary, 1, 1, 16, ScaleStatistic::absmean};
    uint64_t zero_signs = 0;
    const PackedWeight packed = pack_layer(weight, 1, 16, config, {}, "layer", &zero_signs);
    EXPECT_EQ(zero_signs, 14u);
    EXPECT_EQ(packed.packed, (std::vector<uint8_t>{0b10111111, 0xff}));
}

// A run of a few steps, exported; returns the directory.
fs::path export_run(const ScratchFolder& folder, const TrainConfig& config, const std::string& name,
                    const ExportOptions& options = {}) {
    const fs::path out = folder / name;
    export_model(open_checkpoint(config.job.dump_folder, {}), out, options);
    return out;
}

TEST(Export, FullPrecisionModelHoldsTheTrainedWeights) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.training.steps = 2;
    test::run(config);
    const Checkpoint checkpoint = open_checkpoint(config.job.dump_folder, {});
    EXPECT_EQ(checkpoint.state().step, 2);
    for (DType dtype : {DType::bf16, DType::f16, DType::f32}) {
        const fs::path out = export_run(folder, config, std::string(name(dtype)), {.dtype = dtype});
        ModelFiles model = ModelFiles::open(out);
        EXPECT_FALSE(model.quantization());
        EXPECT_EQ(model.names().size(), checkpoint.weights().tensors().size());
        for (const TensorView& trained : checkpoint.weights().tensors()) {
            const TensorView& tensor = model.get(trained.name, trained.shape);
            EXPECT_EQ(tensor.dtype, dtype);
            EXPECT_EQ(std::vector<std::byte>(tensor.bytes.begin(), tensor.bytes.end()), to_bytes(read_floats(trained), dtype));
        }
        LlamaConfig written = read_llama_config(out), expected = checkpoint.model();
        expected.torch_dtype = written.torch_dtype;
        EXPECT_EQ(written, expected);
        EXPECT_EQ(load_tokenizer(out).encode("Once upon a time"),
                  load_tokenizer(config.tokenizer_path()).encode("Once upon a time"));
        EXPECT_EQ(read_generation_config(out).eos_token_ids, std::vector<int32_t>{*load_tokenizer(out).eos()});
    }
    EXPECT_CONTAINS(error_of([&] { export_run(folder, config, "f32"); }), "exists already");
    EXPECT_CONTAINS(error_of([&] { open_checkpoint(folder / "f32", {}); }), "no checkpoint");
}

TEST(Export, ShardsHoldTheSameTensors) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.training.steps = 1;
    test::quantize(config);
    config.quantization.qat_start_step = 0;
    test::run(config);
    ModelFiles whole = ModelFiles::open(export_run(folder, config, "whole"));
    ModelFiles shards = ModelFiles::open(export_run(folder, config, "shards", {.max_shard_bytes = 10000}));
    EXPECT_GT(shards.files().size(), 2u);
    EXPECT_EQ(shards.names().size(), whole.names().size());
    for (const std::string& name : whole.names()) EXPECT_TRUE(std::ranges::equal(whole.get(name).bytes, shards.get(name).bytes));
}

TEST(Export, EveryQuantizerGivesAModelOfPackedLayers) {
    ScratchFolder folder;
    for (const char* quantizer : {"nonlinear", "sym_int", "ternary", "binary"}) {
        SCOPED_TRACE(quantizer);
        TrainConfig config = test::tiny_config(folder.path());
        config.job.dump_folder = (folder / quantizer).string();
        config.training.steps = 2;
        config.quantization.quantizer = quantizer;
        config.quantization.target_bit_width = 3;
        config.quantization.ignore_names = {"output", "layers.1.mlp.down_proj"};
        test::run(config);
        const Checkpoint checkpoint = open_checkpoint(config.job.dump_folder, {});
        ModelFiles model = ModelFiles::open(export_run(folder, config, std::string(quantizer) + "-model"));
        ASSERT_TRUE(model.quantization());
        EXPECT_EQ(model.quantization()->quant_method, quantizer);
        EXPECT_EQ(model.quantization()->block_size, 16);
        int packed = 0;
        for (const Parameter& p : llama_parameters(checkpoint.model(), true, config.quantization.ignore_names)) {
            if (!p.quantized) {
                EXPECT_NE(model.find(p.name), nullptr) << p.name;
                continue;
            }
            packed++;
            std::optional<PackedLinear> layer = find_packed_linear(model, p.layer_name(), p.shape[0], p.shape[1]);
            ASSERT_TRUE(layer) << p.name;
            EXPECT_EQ(layer->bits, model.quantization()->bits);
            EXPECT_EQ(layer->block_size, 16);
            std::vector<float> centroids;
            if (const TensorView* table = checkpoint.centroids(p.layer_name())) centroids = read_floats(*table);
            EXPECT_EQ(centroids.empty(), std::string(quantizer) != "nonlinear");
            const PackedWeight expected = pack_layer(read_floats(checkpoint.weights().get(p.name)), p.shape[0], p.shape[1],
                                                     quantizer_config(config), centroids, p.name);
            const PackedWeight found = load(*layer);
            EXPECT_EQ(found.packed, expected.packed);
            EXPECT_EQ(found.scales, expected.scales);
            EXPECT_EQ(found.centroids, expected.centroids);
        }
        EXPECT_EQ(packed, 13);
        EXPECT_NE(model.find("model.layers.1.mlp.down_proj.weight"), nullptr);
    }
}

TEST(Export, BeforeQuantizationIsOnTheModelIsInFullPrecision) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    test::quantize(config);
    test::run_until(config, 2, false);
    EXPECT_FALSE(ModelFiles::open(export_run(folder, config, "model")).quantization());
}

// A quantized head has no packed form: its dense weight is q(W).
TEST(Export, QuantizedHeadIsDense) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.training.steps = 1;
    config.quantization.quantizer = "ternary";
    config.quantization.ignore_names = {};
    test::run(config);
    ModelFiles model = ModelFiles::open(export_run(folder, config, "model"));
    const TensorView& head = model.get("lm_head.weight");
    const std::vector<float> values = read_floats(head);
    for (size_t block = 0; block < values.size(); block += 16) {
        float scale = 0;
        for (size_t i = block; i < block + 16; i++) scale = std::max(scale, std::abs(values[i]));
        for (size_t i = block; i < block + 16; i++) ASSERT_TRUE(values[i] == 0 || std::abs(values[i]) == scale);
    }
}

// tiny-kmeans-* were made from the weights of tiny-bf16 and centroids of their own.
TEST(ReferenceExport, WeightsAndCentroidsGiveThePublishedTensors) {
    const fs::path reference = test::reference_folder();
    if (reference.empty()) GTEST_SKIP() << "no folder of reference vectors (VKQAT_REFERENCE)";
    ScratchFolder folder;
    int directories = 0;
    for (const auto& entry : fs::directory_iterator(reference)) {
        const std::string directory = entry.path().filename().string();
        if (!directory.starts_with("tiny-kmeans-")) continue;
        SCOPED_TRACE(directory);
        directories++;
        ModelFiles published = ModelFiles::open(entry.path());
        const QuantizationConfig& quantization = *published.quantization();
        TrainConfig config = test::tiny_config(folder.path());
        config.checkpoint.initial_load_path = (reference / "tiny-bf16").string();
        config.quantization.quantizer = "nonlinear";
        config.quantization.target_bit_width = quantization.bits;
        config.quantization.block_dim_2 = quantization.block_size;
        config.quantization.relative_scale = quantization.relative_scale;

        const RunSettings settings{
            .config = config, .model = read_llama_config(entry.path()), .tokenizer = config.tokenizer_path()};
        ParameterStore parameters(test::device(), settings.model, llama_parameters(settings.model, true, {"output"}), DType::f32);
        parameters.load(ModelFiles::open(reference / "tiny-bf16"));
        TrainingStep training(test::device(), parameters, {.seq_len = 16, .quantizer = quantizer_config(config)});
        for (size_t layer = 0; layer < training.quantized_layers().size(); layer++)
            training.set_centroids(
                layer, read_floats(published.get(parameters.parameters()[training.quantized_layers()[layer]].layer_name() +
                                                 ".centroids")));
        const fs::path checkpoint = write_checkpoint(folder / (directory + "-checkpoints"), settings,
                                                     {.step = 1, .quantized = true}, parameters, training);
        export_model(Checkpoint(checkpoint), folder / directory, {});
        ModelFiles exported = ModelFiles::open(folder / directory);
        EXPECT_EQ(exported.names(), published.names());
        for (const std::string& name : published.names()) {
            const TensorView &a = exported.get(name), &b = published.get(name);
            EXPECT_EQ(a.dtype, b.dtype) << name;
            EXPECT_EQ(a.shape, b.shape) << name;
            EXPECT_TRUE(std::ranges::equal(a.bytes, b.bytes)) << name << " differs";
        }
        LlamaConfig written = read_llama_config(folder / directory);
        EXPECT_EQ(written, settings.model);
        QuantizationConfig described = *exported.quantization();
        EXPECT_EQ(described.centroids.size(), size_t(quantization.num_centroids));
        described.centroids = quantization.centroids;
        EXPECT_EQ(described, quantization);
    }
    EXPECT_GT(directories, 0);
}

}  // namespace
}  // namespace vkqat

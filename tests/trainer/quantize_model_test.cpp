// Quantization of a small trained model without training it.
#include "trainer/quantize_model.h"

#include "runtime/formats/packing.h"
#include "runtime/model/scorer.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/export.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using test::ScratchFolder;

// A model that has seen some stories, in fp32, and a text it has not seen.
struct Trained {
    explicit Trained(const ScratchFolder& folder) : model(folder / "model") {
        TrainConfig config = test::tiny_config(folder.path());
        config.training.steps = 40;
        test::run(config);
        export_model(open_checkpoint(config.job.dump_folder, {}), model, {.dtype = DType::f32});
        const Tokenizer tokenizer = load_tokenizer(config.model.tokenizer_path);
        auto windows = evaluation_windows(folder / "valid.txt", text_encoder(tokenizer, config.model.tokenizer_path),
                                          {.context = 32, .keep_remainder = false});
        windows.resize(std::min<size_t>(windows.size(), 16));
        text = std::make_unique<Batch>(batch_of_windows(windows, int64_t(windows.size()), 32));
    }
    double loss(const fs::path& of) const {
        const LlamaWeights weights(test::device(), of);
        Scorer scorer(weights, text->batch, text->seq_len);
        double sum = 0;
        for (float nats : scorer.score(text->ids, text->labels, text->document_start, text->document_end)) sum += double(nats);
        return sum / double(text->batch * (text->seq_len - 1));
    }
    fs::path model;
    std::unique_ptr<Batch> text;
};

QuantizeResult quantize(const Trained& t, const fs::path& out, const QuantizeOptions& options,
                        const std::function<bool()>& stop = {}) {
    return quantize_model(test::device(), t.model, out, options, t.text.get(), {}, stop);
}

QuantizerConfig blocks_of_16(QuantizerKind kind, int bits, ScaleStatistic scale = ScaleStatistic::absmean) {
    return {.kind = kind, .bits = bits, .block_dim_2 = 16, .scale = scale};
}

TEST(QuantizeModel, WritesPackedModelsThatPredictAlike) {
    ScratchFolder folder;
    const Trained t(folder);
    const double full = t.loss(t.model);
    QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::nonlinear, 4), .dtype = DType::f32};
    const QuantizeResult result = quantize(t, folder / "kmeans4", options);
    EXPECT_EQ(result.packed_layers, 14u);
    EXPECT_FALSE(fs::exists(folder / "kmeans4.work"));
    EXPECT_EQ(ModelFiles::open(folder / "kmeans4").stored_bytes(), result.packed_bytes + result.dense_bytes);
    EXPECT_NEAR(t.loss(folder / "kmeans4"), full, 0.05);
    options.weighted = true;
    quantize(t, folder / "weighted4", options);
    EXPECT_NEAR(t.loss(folder / "weighted4"), full, 0.05);
    options = {.quantizer = blocks_of_16(QuantizerKind::sym_int, 8, ScaleStatistic::absmax), .dtype = DType::f32};
    quantize(t, folder / "int8", options);
    EXPECT_NEAR(t.loss(folder / "int8"), full, 0.01);
}

TEST(QuantizeModel, RulesGiveLayersTheirBits) {
    ScratchFolder folder;
    const Trained t(folder);
    std::ofstream(folder / "bits.txt") << "# first layer\nlayers.0. 8\ndown_proj 3 # all\n\n";
    const QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::nonlinear, 2),
                                  .rules = read_bits_table(folder / "bits.txt")};
    quantize(t, folder / "mixed", options);
    const ModelFiles files = ModelFiles::open(folder / "mixed");
    auto bits = [&](const std::string& name, int64_t out, int64_t in) { return find_packed_linear(files, name, out, in)->bits; };
    EXPECT_EQ(bits("model.layers.0.self_attn.q_proj", 32, 32), 8);
    EXPECT_EQ(bits("model.layers.0.mlp.down_proj", 32, 64), 3);
    EXPECT_EQ(bits("model.layers.1.self_attn.q_proj", 32, 32), 2);
    EXPECT_LT(t.loss(folder / "mixed"), 8);
    std::ofstream(folder / "bad.txt") << "layers.0. 5\n";
    EXPECT_THROW(read_bits_table(folder / "bad.txt"), Error);
}

TEST(QuantizeModel, BudgetIsKeptAndSpentWhereItHelps) {
    ScratchFolder folder;
    const Trained t(folder);
    QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::nonlinear, 2)};
    const QuantizeResult two = quantize(t, folder / "two", options);
    options.budget = two.packed_bytes + two.dense_bytes;
    const QuantizeResult mixed = quantize(t, folder / "mixed", options);
    EXPECT_LE(mixed.packed_bytes + mixed.dense_bytes, options.budget);
    EXPECT_LT(t.loss(folder / "mixed"), t.loss(folder / "two") + 0.02);
    options.budget = 1000;
    EXPECT_THROW(quantize(t, folder / "small", options), Error);
}

// What clipping promises is a smaller error of each layer's output; a model that has seen 40 steps may not notice.
TEST(QuantizeModel, ClippingLeavesLessErrorInEveryLayerButQueriesAndKeys) {
    ScratchFolder folder;
    const Trained t(folder);
    QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::int_asym, 2), .clip = true, .dtype = DType::f32};
    int layers = 0;
    const auto line = [&](const std::string& text) {
        const size_t at = text.find("clipping leaves ");
        if (at == text.npos) return;
        layers++;
        EXPECT_LT(std::stod(text.substr(at + 16)), 95) << text;
    };
    const QuantizeResult packed = quantize_model(test::device(), t.model, folder / "clipped", options, t.text.get(), line);
    EXPECT_EQ(packed.packed_layers, 14u);
    EXPECT_EQ(layers, 10);
    EXPECT_LT(t.loss(folder / "clipped"), t.loss(t.model) + 1);
    options.clip_only = true;
    EXPECT_EQ(quantize_model(test::device(), t.model, folder / "dense", options, t.text.get(), line).packed_layers, 0u);
}

TEST(QuantizeModel, GoesOnWhereItWasStopped) {
    ScratchFolder folder;
    const Trained t(folder);
    QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::nonlinear, 2), .budget = 60000};
    quantize(t, folder / "whole", options);
    int layers = 0;
    EXPECT_THROW(quantize(t, folder / "parts", options, [&] { return layers++ == 1; }), Error);
    EXPECT_FALSE(fs::exists(folder / "parts"));
    EXPECT_TRUE(fs::exists(folder / "parts.work" / "layer-0000.safetensors"));
    QuantizeOptions others = options;
    others.seed = 2;
    EXPECT_THROW(quantize(t, folder / "parts", others), Error);
    quantize(t, folder / "parts", options);
    EXPECT_TRUE(read_text_file(folder / "whole" / "model.safetensors") == read_text_file(folder / "parts" / "model.safetensors"));
    EXPECT_FALSE(fs::exists(folder / "parts.work"));
}

TEST(QuantizeModel, RefusesWhatDoesNotGoTogether) {
    ScratchFolder folder;
    const Trained t(folder);
    QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::nonlinear, 4), .weighted = true};
    EXPECT_THROW(quantize_model(test::device(), t.model, folder / "out", options, nullptr, {}), Error);
    EXPECT_THROW(quantize(t, folder / "out", {.quantizer = blocks_of_16(QuantizerKind::nonlinear, 4), .clip = true}), Error);
    EXPECT_THROW(quantize(t, folder / "out", {.quantizer = blocks_of_16(QuantizerKind::int_asym, 2), .budget = 100000}), Error);
    EXPECT_THROW(quantize(t, folder / "out", {.quantizer = {.kind = QuantizerKind::none}}), Error);
    EXPECT_THROW(quantize(t, folder / "out", {.quantizer = {.kind = QuantizerKind::nonlinear, .block_dim_2 = 48}}), Error);
    quantize(t, folder / "out", {.quantizer = blocks_of_16(QuantizerKind::nonlinear, 4)});
    EXPECT_THROW(quantize(t, folder / "out", {.quantizer = blocks_of_16(QuantizerKind::nonlinear, 4)}), Error);
    EXPECT_THROW(quantize_model(test::device(), folder / "out", folder / "again",
                                {.quantizer = blocks_of_16(QuantizerKind::nonlinear, 4)}, nullptr, {}),
                 Error);
}

}  // namespace
}  // namespace vkqat

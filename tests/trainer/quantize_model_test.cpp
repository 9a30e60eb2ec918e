// Quantization of a small trained model without training it.
#include "trainer/quantize_model.h"

#include "runtime/formats/packing.h"
#include "tests/trainer/trained_model.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using test::ScratchFolder;

// A model that has seen some stories, in fp32, and a text it has not seen.
struct Trained {
    explicit Trained(const ScratchFolder& folder) : model(folder / "model") {
        TrainConfig config = test::tiny_config(folder.path());
        config.training.steps = 40;
        test::train_and_export(config, model);
        text = test::held_out_batches(folder, config, 16);
    }
    // Nats for each token.
    double loss(const fs::path& of) const { return test::loss_of(of, text) / double(text[0].batch * (text[0].seq_len - 1)); }
    fs::path model;
    std::vector<Batch> text;  // one
};

QuantizeResult quantize(const Trained& t, const fs::path& out, const QuantizeOptions& options,
                        const std::function<bool()>& stop = {}) {
    return quantize_model(test::device(), t.model, out, options, &t.text[0], {}, stop);
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

TEST(QuantizeModel, TernaryWeightsLieFiveToAByteOnRequest) {
    ScratchFolder folder;
    const Trained t(folder);
    // BitNet b1.58: one scale for a matrix, 8-bit inputs.
    QuantizeOptions options{.quantizer = {.kind = QuantizerKind::ternary, .bits = 2, .block_dim_1 = 0, .block_dim_2 = 0},
                            .dtype = DType::f32,
                            .integer_inputs = true};
    const QuantizeResult two = quantize(t, folder / "two", options);
    options.five_to_a_byte = true;
    const QuantizeResult five = quantize(t, folder / "five", options);
    const ModelFiles a = ModelFiles::open(folder / "two"), b = ModelFiles::open(folder / "five");
    for (const auto& [files, result] : {std::pair{&a, &two}, {&b, &five}}) {
        EXPECT_EQ(files->stored_bytes(), result->packed_bytes + result->dense_bytes);
        EXPECT_EQ(files->quantization()->activation_bits, 8);
    }
    EXPECT_LT(five.packed_bytes, two.packed_bytes);
    const auto q = find_packed_linear(b, "model.layers.1.self_attn.q_proj", 32, 32);
    EXPECT_TRUE(q->ternary);
    EXPECT_EQ(q->weight_packed->bytes.size(), 32u * 7);  // 32 weights: 7 bytes
    EXPECT_EQ(dequantize(load(*q)), dequantize(load(*find_packed_linear(a, "model.layers.1.self_attn.q_proj", 32, 32))));
    EXPECT_DOUBLE_EQ(t.loss(folder / "five"), t.loss(folder / "two"));
    options.quantizer = blocks_of_16(QuantizerKind::nonlinear, 2);
    EXPECT_THROW(quantize(t, folder / "kmeans", options), Error);
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
    for (const char* bad : {"layers.0. 5\n", "layers.0. 4 x\n", "layers.0. 4 -16\n", "layers.0. 4 16 1\n"}) {
        std::ofstream(folder / "bad.txt") << bad;
        EXPECT_THROW(read_bits_table(folder / "bad.txt"), Error) << bad;
    }
}

// Neighbours with one input, each in a form of its own, are computed side by side.
TEST(QuantizeModel, NeighboursMayDifferInBitsAndBlocks) {
    ScratchFolder folder;
    const Trained t(folder);
    std::ofstream(folder / "bits.txt") << "q_proj 4 8\nk_proj 3 32\nv_proj 4\ngate_proj 8 32\nup_proj 2 4\n";
    const QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::nonlinear, 4),
                                  .rules = read_bits_table(folder / "bits.txt"),
                                  .dtype = DType::f32};
    const QuantizeResult result = quantize(t, folder / "mixed", options);
    const ModelFiles files = ModelFiles::open(folder / "mixed");
    EXPECT_EQ(files.stored_bytes(), result.packed_bytes + result.dense_bytes);
    EXPECT_EQ(files.quantization()->block_size, 0);
    const auto k = find_packed_linear(files, "model.layers.1.self_attn.k_proj", 16, 32);
    EXPECT_EQ(k->bits, 3);
    EXPECT_EQ(k->block_size, 32);
    test::write_dense_form(folder / "mixed", folder / "dense");
    EXPECT_NEAR(t.loss(folder / "mixed"), t.loss(folder / "dense"), 2e-3);
}

TEST(QuantizeModel, BudgetIsKeptAndSpentWhereItHelps) {
    ScratchFolder folder;
    const Trained t(folder);
    QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::nonlinear, 2)};
    const QuantizeResult two = quantize(t, folder / "two", options);
    options.budget = two.packed_bytes + two.dense_bytes;
    options.budget_blocks = {8, 32, 24, 0};  // 24 divides nothing
    const QuantizeResult mixed = quantize(t, folder / "mixed", options);
    EXPECT_LE(mixed.packed_bytes + mixed.dense_bytes, options.budget);
    EXPECT_LT(mixed.divergence, mixed.uniform_divergence);
    EXPECT_EQ(mixed.uniform_bits, 2);
    EXPECT_LT(t.loss(folder / "mixed"), t.loss(folder / "two") + 0.02);
    // The table that comes out gives the same model.
    std::ofstream table(folder / "bits.txt");
    for (const BitsRule& rule : mixed.bits)
        table << rule.pattern << ' ' << rule.bits << (rule.block ? fmt::format(" {}", rule.block) : "") << '\n';
    table.close();
    QuantizeOptions again{.quantizer = options.quantizer, .rules = read_bits_table(folder / "bits.txt")};
    quantize(t, folder / "again", again);
    EXPECT_TRUE(read_text_file(folder / "again" / "model.safetensors") == read_text_file(folder / "mixed" / "model.safetensors"));
    options.budget = 1000;
    EXPECT_THROW(quantize(t, folder / "small", options), Error);
}

// Asymmetric ones as well, each layer's width with its own clipping bounds.
TEST(QuantizeModel, BudgetsAreForAsymmetricQuantizersToo) {
    ScratchFolder folder;
    const Trained t(folder);
    for (QuantizerKind kind : {QuantizerKind::int_asym, QuantizerKind::nf}) {
        const std::string to = std::string(name(kind));
        QuantizeOptions options{.quantizer = blocks_of_16(kind, 3), .clip = kind == QuantizerKind::int_asym};
        const QuantizeResult three = quantize(t, folder / (to + "3"), options);
        options.budget = three.packed_bytes + three.dense_bytes + 700;  // a tenth of a bit more
        options.budget_blocks = {32};
        const QuantizeResult mixed = quantize(t, folder / to, options);
        EXPECT_EQ(ModelFiles::open(folder / to).stored_bytes(), mixed.packed_bytes + mixed.dense_bytes);
        EXPECT_LE(mixed.packed_bytes + mixed.dense_bytes, options.budget);
        EXPECT_EQ(mixed.uniform_bits, 3);
        EXPECT_LT(mixed.divergence, mixed.uniform_divergence);
        EXPECT_LT(t.loss(folder / to), t.loss(folder / (to + "3")) + 0.02);
    }
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
    const QuantizeResult packed = quantize_model(test::device(), t.model, folder / "clipped", options, &t.text[0], line);
    EXPECT_EQ(packed.packed_layers, 14u);
    EXPECT_EQ(layers, 10);
    EXPECT_LT(t.loss(folder / "clipped"), t.loss(t.model) + 1);
    options.clip_only = true;
    EXPECT_EQ(quantize_model(test::device(), t.model, folder / "dense", options, &t.text[0], line).packed_layers, 0u);
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
    // Stopped again among the measurements of all layers together.
    layers = 0;
    EXPECT_THROW(quantize(t, folder / "parts", options, [&] { return layers++ == 3; }), Error);
    EXPECT_FALSE(fs::exists(folder / "parts"));
    quantize(t, folder / "parts", options);
    EXPECT_TRUE(read_text_file(folder / "whole" / "model.safetensors") == read_text_file(folder / "parts" / "model.safetensors"));
    EXPECT_FALSE(fs::exists(folder / "parts.work"));
}

// The search of clipping bounds, too.
TEST(QuantizeModel, ClippingGoesOnWhereItWasStopped) {
    ScratchFolder folder;
    const Trained t(folder);
    const QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::int_asym, 2), .clip = true};
    quantize(t, folder / "whole", options);
    int layers = 0, searched = 0;
    EXPECT_THROW(quantize(t, folder / "parts", options, [&] { return layers++ == 1; }), Error);
    const auto line = [&](const std::string& text) { searched += text.find("clipping leaves") != text.npos; };
    quantize_model(test::device(), t.model, folder / "parts", options, &t.text[0], line);
    EXPECT_EQ(searched, 5);  // of one layer
    EXPECT_TRUE(read_text_file(folder / "whole" / "model.safetensors") == read_text_file(folder / "parts" / "model.safetensors"));
}

TEST(QuantizeModel, RefusesWhatDoesNotGoTogether) {
    ScratchFolder folder;
    const Trained t(folder);
    QuantizeOptions options{.quantizer = blocks_of_16(QuantizerKind::nonlinear, 4), .weighted = true};
    EXPECT_THROW(quantize_model(test::device(), t.model, folder / "out", options, nullptr, {}), Error);
    EXPECT_THROW(quantize(t, folder / "out", {.quantizer = blocks_of_16(QuantizerKind::nonlinear, 4), .clip = true}), Error);
    EXPECT_THROW(quantize(t, folder / "out", {.quantizer = blocks_of_16(QuantizerKind::ternary, 2), .budget = 100000}), Error);
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

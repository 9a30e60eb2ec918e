// Runs with the quantizers of BitNet b1.58 and BitDistiller, with a teacher, and in two stages.
#include <cmath>

#include "runtime/formats/onebit_packing.h"
#include "runtime/model/sequences.h"
#include "runtime/ops/matmul.h"
#include "tests/trainer/trained_model.h"
#include "trainer/optimizer.h"
#include "trainer/teacher.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using test::ScratchFolder;

TrainConfig config_of(const ScratchFolder& folder, const std::string& name) {
    TrainConfig c = test::tiny_config(folder.path());
    c.job.dump_folder = (folder / name).string();
    c.training.steps = 24;
    c.checkpoint.interval = 12;
    c.validation.enable = true;
    c.validation.dataset = {(folder / "valid.txt").string()};
    c.validation.freq = 24;
    return c;
}

std::pair<double, double> first_and_last_loss(const TrainConfig& c) {
    double first = 0, last = 0;
    for (const nlohmann::json& line : test::metrics(c))
        if (line.contains("loss") && line.contains("learning_rate")) (first == 0 ? first : last) = line["loss"].get<double>();
    return {first, last};
}

// The same as loss_of() by the training's own graphs.
double training_loss(const Checkpoint& checkpoint, const std::vector<Batch>& batches, const TrainConfig& c) {
    const QuantizerConfig quantizer = quantizer_config(c);
    ParameterStore parameters(test::device(), checkpoint.model(),
                              llama_parameters(checkpoint.model(), true, {"output"}, quantizer.kind == QuantizerKind::onebit),
                              DType::f32);
    TrainingStep training(test::device(), parameters,
                          {.batch = 4,
                           .seq_len = 32,
                           .quantizer = quantizer,
                           .quantize_activations = quantizes_activations(c),
                           .bitlinear_norm = parse_bitlinear_norm(c.quantization.bitlinear_norm)});
    checkpoint.restore(parameters, training);
    training.set_quantized(true);
    training.prepare();
    double sum = 0;
    for (const Batch& batch : batches) sum += training.evaluate(batch).first;
    return sum;
}

// Logits of a text's last token by a prompt in pieces, then by decoding steps, and those of all tokens at once.
std::vector<std::vector<float>> all_ways(const fs::path& model) {
    const LlamaWeights weights(test::device(), model);
    std::vector<int32_t> ids;
    for (int i = 0; i < 29; i++) ids.push_back((i * 37 + 11) % 300);
    std::vector<std::vector<float>> result{all_logits(weights, ids)};
    Sequences one(weights, {.count = 1, .context = 64, .prefill_rows = 16}), three(weights, {.count = 3, .context = 64});
    for (Sequences* sequences : {&one, &three}) {
        const int64_t count = sequences == &one ? 1 : 3;
        for (int64_t at = 0; at < count; at++) sequences->prefill(at, ids, 0);
        for (int64_t at = 0; at < count; at++) result.push_back(sequences->logits(at));
        for (int64_t at = 0; at < count; at++) {
            std::vector<int32_t> longer = ids;
            longer.push_back(int32_t(5 + at));
            sequences->resume(at, longer);
        }
        test::device().wait(sequences->decode());
        for (int64_t at = 0; at < count; at++) result.push_back(sequences->logits(at));
    }
    return result;
}

// Kernels for packed weights compute in 16 bits on GPUs: the bound of the reference vectors for those is 2e-2.
double packed_bound() { return test::device().capabilities().kind == DeviceKind::cpu ? 2e-5 : 2e-2; }

TEST(Methods, PackedModelsGiveTheLogitsOfTheirUnpackedForm) {
    ScratchFolder folder;
    struct Case {
        const char* quantizer;
        int bits;
        int64_t block;
        const char* norm = "replace";
    };
    for (const auto& [quantizer, bits, block, norm] :
         {Case{"int_asym", 2, 16}, Case{"int_asym", 3, 32}, Case{"nf", 3, 32}, Case{"nf", 4, 16}, Case{"bitnet158", 2, 16},
          Case{"bitnet158", 2, 16, "add"}, Case{"bitnet158", 2, 16, "none"}}) {
        SCOPED_TRACE(fmt::format("{} {} {}", quantizer, bits, norm));
        TrainConfig c = config_of(folder, fmt::format("{}-{}-{}", quantizer, bits, norm));
        c.quantization.quantizer = quantizer;
        c.quantization.target_bit_width = bits;
        c.quantization.block_dim_2 = block;
        c.quantization.bitlinear_norm = norm;
        c.training.steps = 4;
        c.validation.enable = false;
        test::run(c);
        const fs::path packed = fs::path(c.job.dump_folder) / "packed", dense = fs::path(c.job.dump_folder) / "dense";
        const ExportResult exported = export_model(open_checkpoint(c.job.dump_folder, {}), packed, {.dtype = DType::f32});
        EXPECT_EQ(exported.packed_layers, 14u);
        test::write_dense_form(packed, dense);
        const auto expected = all_ways(dense), found = all_ways(packed);
        for (size_t i = 0; i < expected.size(); i++) EXPECT_LT(test::relative_error(found[i], expected[i]), packed_bound()) << i;
    }
}

// Half of quantization is half of the way from a weight to its quantized value.
TEST(Methods, QuantizationIsSwitchedOnGradually) {
    const std::vector<float> w = test::normal(12 * 40, 3);
    for (DType type : {DType::f32, DType::bf16}) {
        Graph g(test::device());
        test::Tensors data(g);
        Tensor weight = data.floats({12, 40}, w, "w"), used = data.poisoned({12, 40}, "used", type);
        const QuantizerConfig config{.kind = QuantizerKind::binary, .block_dim_2 = 40};
        quantize_weights(g, weight, used, config, {}, "layer");
        blend_weights(g, weight, used, data.floats({1}, {0.25f}, "strength"), "layer");
        Executable(g, "test").run();
        const std::vector<float> values = data.read(used);
        Graph all(test::device());
        test::Tensors whole(all);
        Tensor q = whole.poisoned({12, 40}, "q");
        quantize_weights(all, whole.floats({12, 40}, w, "w"), q, config, {}, "layer");
        Executable(all, "test").run();
        const std::vector<float> quantized = whole.read(q);
        for (size_t i = 0; i < w.size(); i++)
            EXPECT_NEAR(values[i], 0.75f * w[i] + 0.25f * quantized[i], type == DType::f32 ? 1e-6 : 0.02) << i;
    }

    ScratchFolder folder;
    TrainConfig whole = config_of(folder, "whole"), parts = config_of(folder, "parts"), at_once = config_of(folder, "at-once");
    for (TrainConfig* c : {&whole, &parts, &at_once}) {
        c->quantization.quantizer = "bitnet158";
        c->quantization.bitlinear_norm = "none";
        c->quantization.qat_start_step = 8;
        c->quantization.switch_on_steps = c == &at_once ? 0 : 12;
    }
    test::run(whole);
    test::run_until(parts, 14, false);
    test::run(parts, {.resume = true});
    test::expect_same_checkpoint(whole, parts, 24);
    test::run(at_once);
    auto loss_at = [](const TrainConfig& c, int64_t step) {
        for (const nlohmann::json& line : test::metrics(c))
            if (line.contains("learning_rate") && line["step"].get<int64_t>() == step) return line["loss"].get<double>();
        return 0.0;
    };
    EXPECT_EQ(loss_at(whole, 7), loss_at(at_once, 7));
    EXPECT_NE(loss_at(whole, 8), loss_at(at_once, 8));
    whole.quantization.quantizer = "int_asym";
    whole.job.dump_folder = (folder / "refused").string();
    EXPECT_THROW(test::run(whole), Error);
}

TEST(Methods, TernaryWeightsLieFiveToAByte) {
    EXPECT_EQ(pack_ternary(std::vector<uint8_t>{0, 1, 2, 0, 1, 2, 2, 2, 2, 2, 2, 1}, 6), (std::vector<uint8_t>{102, 2, 242, 1}));
    for (int64_t in : {1, 4, 5, 6, 1024}) {
        std::vector<uint8_t> indices;
        for (int64_t i = 0; i < 3 * in; i++) indices.push_back(uint8_t(i * i % 3));
        EXPECT_EQ(unpack_ternary(pack_ternary(indices, in), in), indices);
    }
    EXPECT_THROW(pack_ternary(std::vector<uint8_t>{3}, 1), Error);
    EXPECT_THROW(unpack_ternary(std::vector<uint8_t>{243}, 5), Error);

    ScratchFolder folder;
    TrainConfig c = config_of(folder, "run");
    c.quantization.quantizer = "bitnet158";
    c.training.steps = 4;
    test::run(c);
    const Checkpoint checkpoint = open_checkpoint(c.job.dump_folder, {});
    const ExportResult two = export_model(checkpoint, folder / "two", {.dtype = DType::f32});
    const ExportResult five = export_model(checkpoint, folder / "five", {.dtype = DType::f32, .five_to_a_byte = true});
    // 7 bytes for a row of 32 weights instead of 8, and 13 for one of 64 instead of 16; 2 layers.
    EXPECT_EQ(two.packed_bytes - five.packed_bytes, 2u * ((32 + 2 * 16 + 32 + 2 * 64) + 3 * 32));
    EXPECT_EQ(all_ways(folder / "five"), all_ways(folder / "two"));
    c.quantization.quantizer = "nonlinear";
    c.job.dump_folder = (folder / "k-means").string();
    test::run(c);
    EXPECT_THROW(export_model(open_checkpoint(c.job.dump_folder, {}), folder / "none", {.five_to_a_byte = true}), Error);
}

// Bits a weight: indices, 16 of a scale and 8 of a zero point, or twice 16, for each block.
TEST(Methods, AsymmetricLayersTakeTheBytesOfTheirBits) {
    const std::vector<float> w = test::normal(32 * 128, 3);
    for (int bits : {2, 3}) {
        const PackedWeight p =
            pack_layer(w, 32, 128, {.kind = QuantizerKind::int_asym, .bits = bits, .block_dim_2 = 64}, {}, "layer");
        EXPECT_EQ(p.packed.size(), size_t(32 * 128 * bits / 8));
        EXPECT_EQ(p.scales.size(), 64u);
        EXPECT_EQ(p.zeros.size(), 64u);
        EXPECT_TRUE(p.negative_scales.empty());
    }
    const PackedWeight p = pack_layer(w, 32, 128, {.kind = QuantizerKind::nf, .bits = 3, .block_dim_2 = 64}, {}, "layer");
    EXPECT_EQ(p.negative_scales.size(), 64u);
    EXPECT_TRUE(p.zeros.empty());
}

// Packed values are those of the quantizer's pass on the device, but for scales in bf16.
TEST(Methods, AsymmetricPackingChoosesTheLevelsOfTraining) {
    const std::vector<float> w = test::normal(24 * 64, 5);
    for (auto [kind, bits] :
         {std::pair{QuantizerKind::int_asym, 2}, {QuantizerKind::int_asym, 3}, {QuantizerKind::nf, 3}, {QuantizerKind::nf, 4}}) {
        const QuantizerConfig config{.kind = kind, .bits = bits, .block_dim_2 = 32};
        Graph g(test::device());
        test::Tensors data(g);
        Tensor q = data.poisoned({24, 64}, "q");
        quantize_weights(g, data.floats({24, 64}, w, "w"), q, config, {}, "layer");
        Executable(g, "test").run();
        const std::vector<float> trained = data.read(q), packed = dequantize(pack_layer(w, 24, 64, config, {}, "layer"));
        for (size_t i = 0; i < w.size(); i++)
            EXPECT_NEAR(packed[i], trained[i], std::abs(trained[i]) * 0x1p-8f + 1e-7f) << i << " of " << w[i];
        const std::vector<float> exact = asymmetric_values(w, 24, 64, config, "layer");
        for (size_t i = 0; i < w.size(); i++) EXPECT_NEAR(exact[i], trained[i], std::abs(trained[i]) * 1e-6f) << i;
    }
}

// Also where a block lies on one side of zero, and where all weights of one are equal.
TEST(Methods, BlocksOnOneSideOfZeroArePacked) {
    std::vector<float> w;
    for (int i = 0; i < 32; i++) w.push_back(float(i) * 0.01f + 0.5f);
    for (int i = 0; i < 32; i++) w.push_back(float(i) * -0.01f - 0.5f);
    for (int i = 0; i < 32; i++) w.push_back(0.25f);
    for (int i = 0; i < 32; i++) w.push_back(0);
    for (auto [kind, bits] : {std::pair{QuantizerKind::int_asym, 3}, {QuantizerKind::nf, 3}}) {
        const QuantizerConfig config{.kind = kind, .bits = bits, .block_dim_2 = 32};
        const std::vector<float> exact = asymmetric_values(w, 1, 128, config, "layer");
        const std::vector<float> packed = dequantize(pack_layer(w, 1, 128, config, {}, "layer"));
        for (size_t i = 0; i < w.size(); i++) EXPECT_NEAR(packed[i], exact[i], std::abs(exact[i]) * 0x1p-8f) << i;
    }
}

TEST(Methods, OnebitLearnsFromItsTeacherAndIsPacked) {
    ScratchFolder folder;
    TrainConfig base = config_of(folder, "base");
    base.training.steps = 60;
    test::train_and_export(base, folder / "teacher");
    TrainConfig c = config_of(folder, "onebit");
    c.quantization.quantizer = "onebit";
    c.checkpoint.initial_load_path = (folder / "teacher").string();
    c.distillation.teacher = (folder / "teacher").string();
    c.distillation.loss = "forward";
    c.distillation.label_weight = 1;
    c.distillation.hidden_weight = 1;
    test::Log log;
    const TrainResult result = test::run(c, {}, &log);
    EXPECT_EQ(result.skipped, 0);
    EXPECT_TRUE(log.contains("down_proj: signs between two vectors, relative error 0."));
    const auto [first, last] = first_and_last_loss(c);
    EXPECT_LT(last, first - 0.4);

    const Checkpoint checkpoint = open_checkpoint(c.job.dump_folder, {});
    const fs::path out = folder / "packed";
    const ExportResult exported = export_model(checkpoint, out, {.dtype = DType::f32});
    EXPECT_EQ(exported.packed_layers, 14u);
    // 2 layers: signs, and 16 bits for each input and output.
    EXPECT_EQ(exported.packed_bytes, 2u * ((32 * 64 + 32 * 32 + 3 * 32 * 64) / 8 + 2 * (64 + 48 + 48 + 64 + 96 + 96 + 96)));
    EXPECT_THROW(find_onebit_linear(ModelFiles::open(out), "model.layers.0.self_attn.q_proj", 32, 64), Error);
    EXPECT_NEAR(test::loss_of(out, test::held_out_batches(folder, c, 4)),
                training_loss(checkpoint, test::held_out_batches(folder, c, 4), c),
                2e-3 * test::loss_of(out, test::held_out_batches(folder, c, 4)));  // vectors in fp16
    const auto found = all_ways(out);
    const size_t vocabulary = found[1].size();
    const std::vector<float> last_row(found[0].end() - long(vocabulary), found[0].end());
    EXPECT_LT(test::relative_error(found[1], last_row), packed_bound());

    TrainConfig parts = c;
    parts.job.dump_folder = (folder / "parts").string();
    test::run_until(parts, 14, false);
    test::run(parts, {.resume = true});
    test::expect_same_checkpoint(c, parts, 24);
}

// 16-bit activations meet layers that take fp32, and (where there is bf16, which needs no scale of the loss) a frozen teacher's.
TEST(Methods, OnebitTrainsIn16Bits) {
    const Capabilities& device = test::device().capabilities();
    const bool bf16 = has_matrix_units(device, Precision::bf16);
    if (!bf16 && !has_matrix_units(device, Precision::f16)) GTEST_SKIP() << "no matrix units for 16 bits";
    ScratchFolder folder;
    TrainConfig base = config_of(folder, "base");
    base.training.steps = 2;
    test::train_and_export(base, folder / "teacher", DType::bf16);
    TrainConfig c = config_of(folder, "onebit");
    c.training.precision = bf16 ? "bf16" : "fp16";
    c.training.steps = 2;
    c.validation.enable = false;
    c.quantization.quantizer = "onebit";
    c.checkpoint.initial_load_path = (folder / "teacher").string();
    if (bf16) c.distillation.teacher = c.checkpoint.initial_load_path;
    EXPECT_EQ(test::run(c).skipped, 0);
    const auto [first, last] = first_and_last_loss(c);
    EXPECT_TRUE(std::isfinite(last)) << first;
}

TEST(Methods, TheBestCheckpointStays) {
    ScratchFolder folder;
    TrainConfig c = config_of(folder, "run");
    c.checkpoint.keep_best = true;
    c.checkpoint.keep_latest_k = 1;
    c.checkpoint.interval = 100;
    c.validation.freq = 4;
    c.training.steps = 60;
    c.lr_scheduler.decay_ratio = 0;
    c.optimizer.lr = 3e-2;  // learns 50 stories by heart
    test::run(c);
    double best = 1e9;
    int64_t step = 0;
    for (const nlohmann::json& line : test::metrics(c))
        if (line.contains("validation_loss") && line["validation_loss"].get<double>() < best)
            best = line["validation_loss"].get<double>(), step = line["step"].get<int64_t>();
    const Checkpoint found = open_best_checkpoint(c.job.dump_folder, {});
    EXPECT_EQ(found.state().step, step);
    EXPECT_DOUBLE_EQ(found.state().best_loss, best);
    EXPECT_EQ(open_checkpoint(c.job.dump_folder, {}).state().step, 60);
    EXPECT_LE(test::names_in(c.checkpoint_folder()).size(), 2u);
    TrainConfig without = config_of(folder, "without");
    without.training.steps = 4;
    test::run(without);
    EXPECT_THROW(open_best_checkpoint(without.job.dump_folder, {}), Error);
    without.checkpoint.keep_best = true;
    without.validation.enable = false;
    EXPECT_THROW(validate(without, "test"), Error);
}

TEST(Methods, QuantizersWithTheirOwnGradientsLearnAndAreExported) {
    ScratchFolder folder;
    for (const char* quantizer : {"int_asym", "nf", "bitnet158"}) {
        SCOPED_TRACE(quantizer);
        TrainConfig c = config_of(folder, quantizer);
        c.quantization.quantizer = quantizer;
        c.quantization.target_bit_width = 3;
        const TrainResult result = test::run(c);
        EXPECT_EQ(result.skipped, 0);
        const auto [first, last] = first_and_last_loss(c);
        EXPECT_LT(last, first - 0.5);
        const ExportResult exported = export_model(open_checkpoint(c.job.dump_folder, {}),
                                                   folder / (std::string(quantizer) + "-out"), {.dtype = DType::f32});
        EXPECT_EQ(exported.packed_layers, 14u);
    }
}

// What training measures with quantized weights and activations is what the exported model gives.
TEST(Methods, ExportedModelsPredictAsInTraining) {
    ScratchFolder folder;
    for (const char* quantizer : {"int_asym", "bitnet158"}) {
        SCOPED_TRACE(quantizer);
        TrainConfig c = config_of(folder, quantizer);
        c.quantization.quantizer = quantizer;
        c.quantization.target_bit_width = 2;
        test::run(c);
        const Checkpoint checkpoint = open_checkpoint(c.job.dump_folder, {});
        const fs::path out = folder / (std::string(quantizer) + "-out");
        export_model(checkpoint, out, {.dtype = DType::f32});
        // int_asym: scales are rounded to bf16.
        const double trained = training_loss(checkpoint, test::held_out_batches(folder, c, 4), c);
        EXPECT_NEAR(test::loss_of(out, test::held_out_batches(folder, c, 4)), trained,
                    (quantizes_activations(c) ? 1e-4 : 5e-3) * trained);
    }
}

TEST(Methods, StudentsLearnFromATeacher) {
    ScratchFolder folder;
    TrainConfig base = config_of(folder, "base");
    base.training.steps = 60;
    test::train_and_export(base, folder / "teacher", DType::bf16);
    for (const char* loss : {"cakld", "forward", "jsd", "tlsd"}) {
        SCOPED_TRACE(loss);
        TrainConfig c = config_of(folder, loss);
        c.distillation.teacher = (folder / "teacher").string();
        c.distillation.loss = loss;
        if (std::string(loss) == "forward") c.distillation.hidden_weight = 1, c.distillation.label_weight = 0.5;
        if (std::string(loss) == "cakld") c.training.global_batch_size = 8;
        c.quantization.quantizer = "int_asym";
        c.quantization.target_bit_width = 2;
        test::Log log;
        const TrainResult result = test::run(c, {}, &log);
        EXPECT_EQ(result.skipped, 0);
        const auto [first, last] = first_and_last_loss(c);
        EXPECT_LT(last, 0.8 * first);
        EXPECT_TRUE(log.contains("teacher     "));
    }
}

// Teacher and student need not have one format: here a teacher of 4 bits for full precision and for a student of 2 bits.
TEST(Methods, ATeacherMayBePacked) {
    ScratchFolder folder;
    TrainConfig base = config_of(folder, "base");
    base.training.steps = 60;
    base.quantization.quantizer = "nonlinear";
    base.quantization.target_bit_width = 4;
    base.quantization.qat_start_step = 20;
    EXPECT_GT(test::train_and_export(base, folder / "teacher", DType::bf16).packed_layers, 0u);
    for (const char* quantizer : {"none", "nonlinear"}) {
        SCOPED_TRACE(quantizer);
        TrainConfig c = config_of(folder, quantizer);
        c.distillation.teacher = (folder / "teacher").string();
        c.quantization.quantizer = quantizer;
        EXPECT_EQ(test::run(c).skipped, 0);
        const auto [first, last] = first_and_last_loss(c);
        EXPECT_LT(last, 0.8 * first);
    }
}

TEST(Methods, DistillationGoesOnWithTheSameBits) {
    ScratchFolder folder;
    TrainConfig base = config_of(folder, "base");
    test::train_and_export(base, folder / "teacher", DType::bf16);
    TrainConfig whole = config_of(folder, "whole"), parts = config_of(folder, "parts");
    for (TrainConfig* c : {&whole, &parts}) {
        c->distillation.teacher = (folder / "teacher").string();
        c->quantization.quantizer = "bitnet158";
        c->quantization.qat_start_step = 3;
        c->lr_scheduler.second_stage = 0.5;
        c->lr_scheduler.second_stage_lr_factor = 0.5;
    }
    test::run(whole);
    test::run_until(parts, 14, false);
    test::run(parts, {.resume = true});
    test::expect_same_checkpoint(whole, parts, 24);
}

TEST(Methods, ATeacherOfAnotherShapeIsRefused) {
    ScratchFolder folder;
    TrainConfig base = config_of(folder, "base");
    base.training.steps = 1;
    test::train_and_export(base, folder / "teacher", DType::bf16);
    LlamaConfig student = read_llama_config(folder / "teacher");
    student.layers = 3;
    EXPECT_NO_THROW(Teacher(test::device(), folder / "teacher", student, {}, 16));
    EXPECT_THROW(Teacher(test::device(), folder / "teacher", student, {.hidden_weight = 1}, 16), Error);
    student.vocab_size += 1;
    EXPECT_THROW(Teacher(test::device(), folder / "teacher", student, {}, 16), Error);
    TrainConfig c = config_of(folder, "none");
    c.distillation.weight = 2;
    EXPECT_THROW(validate(c, "test"), Error);
}

TEST(Methods, TheSecondStageLowersTheRate) {
    const LearningRateSchedule schedule{
        .peak = 1, .steps = 100, .warmup_steps = 10, .decay_ratio = 0, .second_stage = 0.5, .second_stage_lr_factor = 0.25};
    EXPECT_EQ(schedule.at(50), 1);
    EXPECT_EQ(schedule.at(51), 0.25);
    EXPECT_FALSE(schedule.in_second_stage(50));
    EXPECT_TRUE(schedule.in_second_stage(51));
    EXPECT_FALSE(LearningRateSchedule{}.in_second_stage(999));
}

}  // namespace
}  // namespace vkqat

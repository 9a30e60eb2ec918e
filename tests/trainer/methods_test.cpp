// Runs with the quantizers of BitNet b1.58 and BitDistiller, with a teacher, and in two stages.
#include <cmath>

#include "runtime/model/scorer.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/export.h"
#include "trainer/optimizer.h"
#include "trainer/teacher.h"
#include "trainer/tokenizer_files.h"

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

double loss_of(const fs::path& model, const ScratchFolder& folder, const TrainConfig& c) {
    const Tokenizer tokenizer = load_tokenizer(c.model.tokenizer_path);
    auto windows = evaluation_windows(folder / "valid.txt", text_encoder(tokenizer, c.model.tokenizer_path),
                                      {.context = 33, .keep_remainder = false});
    const LlamaWeights weights(test::device(), model);
    Scorer scorer(weights, 4, 32);
    double sum = 0;
    for (size_t at = 0; at + 4 <= windows.size() && at < 16; at += 4) {
        std::vector<std::vector<int32_t>> rows(windows.begin() + long(at), windows.begin() + long(at + 4));
        for (auto& row : rows) row.resize(32);
        const Batch b = batch_of_windows(rows, 4, 32);
        for (float nats : scorer.score(b.ids, b.labels, b.document_start, b.document_end)) sum += double(nats);
    }
    return sum;
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
        const bool bitnet = quantizes_activations(c);
        EXPECT_EQ(exported.packed_layers, bitnet ? 14u : 0u);
        EXPECT_EQ(exported.dense_quantized, !bitnet);
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

        ParameterStore parameters(test::device(), checkpoint.model(), llama_parameters(checkpoint.model(), true, {"output"}),
                                  DType::f32);
        TrainingStep training(
            test::device(), parameters,
            {.batch = 4, .seq_len = 32, .quantizer = quantizer_config(c), .quantize_activations = quantizes_activations(c)});
        checkpoint.restore(parameters, training);
        training.set_quantized(true);
        training.prepare();
        const Tokenizer tokenizer = load_tokenizer(c.model.tokenizer_path);
        auto windows = evaluation_windows(folder / "valid.txt", text_encoder(tokenizer, c.model.tokenizer_path),
                                          {.context = 33, .keep_remainder = false});
        double sum = 0;
        for (size_t at = 0; at + 4 <= windows.size() && at < 16; at += 4) {
            std::vector<std::vector<int32_t>> rows(windows.begin() + long(at), windows.begin() + long(at + 4));
            for (auto& row : rows) row.resize(32);
            sum += training.evaluate(batch_of_windows(rows, 4, 32)).first;
        }
        // bitnet158: the scale of a matrix is rounded to bf16; a rounded activation may then fall to the next integer.
        EXPECT_NEAR(loss_of(out, folder, c), sum, (quantizes_activations(c) ? 5e-3 : 1e-4) * sum);
    }
}

TEST(Methods, StudentsLearnFromATeacher) {
    ScratchFolder folder;
    TrainConfig base = config_of(folder, "base");
    base.training.steps = 60;
    test::run(base);
    export_model(open_checkpoint(base.job.dump_folder, {}), folder / "teacher", {});
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

TEST(Methods, DistillationGoesOnWithTheSameBits) {
    ScratchFolder folder;
    TrainConfig base = config_of(folder, "base");
    test::run(base);
    export_model(open_checkpoint(base.job.dump_folder, {}), folder / "teacher", {});
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
    test::run(base);
    export_model(open_checkpoint(base.job.dump_folder, {}), folder / "teacher", {});
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

// The losses of bitdistiller.safetensors and onebit.safetensors (kd.*).
#include <filesystem>

#include "runtime/formats/safetensors.h"
#include "runtime/ops/distillation.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

std::vector<float> of_rows(const std::vector<float>& values, const std::vector<size_t>& rows, size_t cols) {
    std::vector<float> result;
    for (size_t r : rows) result.insert(result.end(), values.begin() + long(r * cols), values.begin() + long((r + 1) * cols));
    return result;
}

TEST(ReferenceDistillation, FiveLossesWithTheirGradients) {
    auto path = test::reference_folder() / "bitdistiller.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (VKQAT_REFERENCE)";
    SafetensorsFile file(path);
    const TensorView& logits = file.get("kd.student_logits");
    const auto sequences = size_t(logits.shape[0]), length = size_t(logits.shape[1]), vocab = size_t(logits.shape[2]);
    const std::vector<float> student = read_floats(logits), teacher = read_floats(file.get("kd.teacher_logits"));
    const std::vector<int64_t> labels = test::read_int64(file.get("kd.labels"));
    for (DistillationLoss loss : {DistillationLoss::forward, DistillationLoss::reverse, DistillationLoss::jsd,
                                  DistillationLoss::tlsd, DistillationLoss::cakld}) {
        SCOPED_TRACE(name(loss));
        const std::string prefix = fmt::format("kd.{}.", name(loss));
        const bool tlsd = loss == DistillationLoss::tlsd;
        // The published code masks with a token's own label, except in tlsd, where a row has the next token's.
        std::vector<size_t> rows;
        std::vector<int32_t> row_labels;
        const size_t kept = length - tlsd;
        for (size_t s = 0; s < sequences; s++)
            for (size_t i = 0; i < kept; i++) {
                rows.push_back(s * length + i);
                row_labels.push_back(int32_t(labels[s * length + i + tlsd]));
            }
        const auto n = int64_t(rows.size());
        float coefficient = 0;
        if (loss == DistillationLoss::jsd) coefficient = std::stof(file.metadata().at("jsd_beta"));
        if (loss == DistillationLoss::cakld) coefficient = std::stof(file.metadata().at("cakld_beta"));
        // Summed over a sequence's tokens, averaged over sequences; tlsd is summed over those too.
        const float scale = tlsd ? 1.f : 1.f / float(sequences);
        Graph g(test::device());
        test::Tensors data(g);
        Tensor s = data.floats({n, int64_t(vocab)}, of_rows(student, rows, vocab), "student");
        Tensor t = data.floats({n, int64_t(vocab)}, of_rows(teacher, rows, vocab), "teacher"), weights;
        DistillationRows r{.labels = data.ints({n}, row_labels, "labels"),
                           .factors = data.floats({3}, {scale, 0, distillation_coefficient(loss, coefficient)}, "factors"),
                           .distance = data.poisoned({n}, "distance"),
                           .entropy = data.poisoned({n}, "entropy"),
                           .gradient = true};
        if (tlsd) {
            // The teacher's loss of each label is the cross-entropy of a student with its logits.
            Tensor teachers = data.poisoned({n}, "teacher's loss"), unused = data.poisoned({n}, "unused");
            distillation_rows(g, DistillationLoss::forward, t, t,
                              {.labels = r.labels, .factors = r.factors, .distance = unused, .entropy = teachers});
            r.weights = data.poisoned({n}, "weights");
            const Shape shape{int64_t(sequences), int64_t(kept)};
            token_scales(g, g.reshape(teachers, shape), g.reshape(r.weights, shape));
        }
        distillation_rows(g, loss, s, t, r);
        Executable(g, "test").run();
        double sum = 0;
        for (float v : data.read(r.distance)) sum += double(v) * scale;
        const float expected = read_floats(file.get(prefix + "loss"))[0];
        EXPECT_NEAR(sum, expected, 1e-5 * expected);
        const std::vector<float> gradient = read_floats(file.get(prefix + "grad"));
        EXPECT_LT(test::relative_error(data.read(s), of_rows(gradient, rows, vocab)), 1e-5);
    }
}

TEST(ReferenceDistillation, LogitsAndHiddenStatesOfOnebit) {
    auto path = test::reference_folder() / "onebit.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (VKQAT_REFERENCE)";
    SafetensorsFile file(path);
    const TensorView &logits = file.get("kd.student_logits"), &hidden = file.get("kd.student_hidden");
    const int64_t sequences = logits.shape[0], tokens = sequences * logits.shape[1], vocab = logits.shape[2];
    const int64_t layers = hidden.shape[0], dim = hidden.shape[3];
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    const float logit_scale = 0.01f / float(sequences);
    Tensor s = data.floats({tokens, vocab}, read_floats(logits), "student");
    Tensor t = data.floats({tokens, vocab}, read_floats(file.get("kd.teacher_logits")), "teacher");
    DistillationRows rows{.labels = data.ints({tokens}, std::vector<int32_t>(size_t(tokens), 0), "labels"),
                          .factors = data.floats({3}, {logit_scale, 0, 0}, "factors"),
                          .distance = data.poisoned({tokens}, "distance"),
                          .entropy = data.poisoned({tokens}, "entropy"),
                          .gradient = true};
    distillation_rows(g, DistillationLoss::forward, s, t, rows);
    // The layers' losses are added; each is a mean over tokens. All rows at once.
    Tensor hs = data.floats({layers * tokens, dim}, read_floats(hidden), "hidden"), dh = data.parameter_gradient(hs);
    Tensor sum = data.poisoned({1}, "sum");
    hidden_distance(g, hs, data.floats({layers * tokens, dim}, read_floats(file.get("kd.teacher_hidden")), "teacher's hidden"),
                    data.floats({1}, {1 / float(tokens)}, "scale"), {}, sum);
    Executable(g, "test").run();
    double kl = 0;
    for (float v : data.read(rows.distance)) kl += double(v) / double(sequences);
    const double expected_kl = read_floats(file.get("kd.logit_loss"))[0],
                 expected_hidden = read_floats(file.get("kd.hidden_loss"))[0];
    EXPECT_NEAR(kl, expected_kl, 1e-5 * expected_kl);
    EXPECT_NEAR(data.read(sum)[0], expected_hidden, 1e-5 * expected_hidden);
    EXPECT_LT(test::relative_error(data.read(s), read_floats(file.get("kd.g_student_logits"))), 1e-5);
    EXPECT_LT(test::relative_error(data.read(dh), read_floats(file.get("kd.g_student_hidden"))), 1e-5);
}

}  // namespace
}  // namespace vkqat

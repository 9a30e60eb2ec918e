// Four steps of training from tiny-bf16 against the published code: losses, gradient norms, gradients, weights.
#include <cstdlib>
#include <filesystem>

#include "runtime/ops/matmul.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"
#include "trainer/train.h"
#include "trainer/training_step.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

struct Case {
    const char* file;
    QuantizerConfig quantizer;
};

class ReferenceQat : public testing::TestWithParam<Case> {};

void check(const Case& c, Precision precision) {
    fs::path folder = test::reference_folder();
    SafetensorsFile file(folder / (std::string(c.file) + ".safetensors"));
    auto number = [&](const char* key) { return std::stod(file.metadata().at(key)); };
    LlamaConfig config = read_llama_config(folder / "tiny-bf16");
    const TensorView& ids = file.get("ids");
    const int64_t batch = ids.shape[0], columns = ids.shape[1], seq_len = columns - 1;

    bool quantize = c.quantizer.kind != QuantizerKind::none;
    ParameterStore parameters(test::device(), config, llama_parameters(config, quantize, {"output"}), weight_type(precision));
    ModelFiles start = ModelFiles::open(folder / "tiny-bf16");
    parameters.load(start);
    TrainingStepOptions options{.batch = batch,
                                .seq_len = seq_len,
                                .max_norm = number("max_norm"),
                                .beta1 = number("beta1"),
                                .beta2 = number("beta2"),
                                .eps = number("eps"),
                                .weight_decay = number("weight_decay"),
                                .quantizer = c.quantizer,
                                .chunk_rows = 50,
                                .precision = precision};
    TrainingStep step(test::device(), parameters, options);
    step.set_quantized(quantize);
    if (options.quantizer.kind == QuantizerKind::nonlinear)
        for (size_t layer = 0; layer < step.quantized_layers().size(); layer++) {
            std::string name = parameters.parameters()[step.quantized_layers()[layer]].layer_name();
            step.set_centroids(layer, read_floats(file.get("c." + name + ".centroids")));
        }

    Batch data(batch, seq_len);
    auto values = test::read_int64(ids);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = 0; t < seq_len; t++) {
            size_t at = size_t(b * seq_len + t);
            data.ids[at] = int32_t(values[size_t(b * columns + t)]);
            data.labels[at] = int32_t(values[size_t(b * columns + t + 1)]);
            data.document_start[at] = 0;
            data.document_end[at] = int32_t(seq_len);
        }
    auto losses = read_floats(file.get("losses")), norms = read_floats(file.get("grad_norms"));
    // The suggested bounds: 1e-5 relative in fp32, 1e-4 after four steps; 2e-2 in 16 bits.
    const bool exact = precision == Precision::f32;
    const double scale = precision == Precision::f16 ? double(step.state().loss_scale) : 1;
    for (size_t s = 0; s < losses.size(); s++) {
        double bound = !exact ? 2e-2 : s == 0 ? 1e-5 : 1e-4;
        step.run({&data, 1}, number("lr"));
        AdamwState state = step.state();
        EXPECT_NEAR(state.loss, losses[s], bound * losses[s]) << "step " << s;
        EXPECT_NEAR(state.gradient_norm, norms[s], bound * norms[s]) << "step " << s;
        if (s > 0) continue;
        for (size_t i = 0; i < parameters.parameters().size(); i++) {
            const std::string& name = parameters.parameters()[i].name;
            std::vector<float> gradient = parameters.read(i, ParameterStore::Array::gradient);
            for (float& x : gradient) x = float(x / scale);
            double error = test::relative_error(gradient, read_floats(file.get("grad." + name)));
            EXPECT_LT(error, exact ? 1e-5 : 2e-2) << "gradient of " << name;
            if (const TensorView* after = file.find("after1." + name)) {
                error = test::relative_error(parameters.read(i, ParameterStore::Array::weight), read_floats(*after));
                EXPECT_LT(error, exact ? 1e-5 : 2e-2) << name << " after a step";
            }
        }
    }
}

TEST_P(ReferenceQat, FourStepsMatchInFp32) {
    if (test::reference_folder().empty()) GTEST_SKIP() << "no folder of reference vectors (VKQAT_REFERENCE)";
    check(GetParam(), Precision::f32);
}

TEST_P(ReferenceQat, FourStepsMatchIn16Bits) {
    if (test::reference_folder().empty()) GTEST_SKIP() << "no folder of reference vectors (VKQAT_REFERENCE)";
    if (test::device().capabilities().kind == DeviceKind::cpu) GTEST_SKIP() << "a CPU driver compiles these kernels for minutes";
    bool any = false;
    for (Precision precision : {Precision::bf16, Precision::f16}) {
        if (!has_matrix_units(test::device().capabilities(), precision)) continue;
        SCOPED_TRACE(precision == Precision::bf16 ? "bf16" : "fp16");
        check(GetParam(), precision);
        any = true;
    }
    if (!any) GTEST_SKIP() << "no matrix units";
}

INSTANTIATE_TEST_SUITE_P(All, ReferenceQat,
                         testing::Values(Case{"qat_none", {}},
                                         Case{"qat_kmeans2", {QuantizerKind::nonlinear, 2, 1, 64, ScaleStatistic::absmean}},
                                         Case{"qat_int4", {QuantizerKind::sym_int, 4, 1, 64, ScaleStatistic::absmax}}),
                         [](const testing::TestParamInfo<Case>& c) { return std::string(c.param.file); });

}  // namespace
}  // namespace vkqat

// bitnet158.safetensors: a layer forward and backward.
#include <filesystem>

#include "runtime/formats/safetensors.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/quantize_activations.h"
#include "runtime/ops/rms_norm.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"
#include "trainer/quantizer.h"

namespace vkqat {
namespace {

TEST(ReferenceBitnet158, LayerForwardAndBackward) {
    auto path = test::reference_folder() / "bitnet158.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (VKQAT_REFERENCE)";
    SafetensorsFile file(path);
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    auto tensor = [&](const std::string& name) {
        return data.floats(test::shape_of(file.get(name)), read_floats(file.get(name)), name);
    };
    Tensor x = tensor("x"), weight = tensor("weight"), norm = tensor("norm_weight");
    Tensor ternary = data.poisoned(weight.shape(), "ternary");
    quantize_weights(g, weight, ternary, {.kind = QuantizerKind::ternary, .block_dim_1 = 0, .block_dim_2 = 0}, {}, "layer");
    Tensor dx = data.parameter_gradient(x), dw = data.parameter_gradient(ternary), dnorm = data.parameter_gradient(norm);
    Tensor normed = rms_norm(g, x, norm, std::stof(file.metadata().at("norm_eps")));
    Tensor quantized = quantize_activations(g, normed);
    Tensor y = linear(g, quantized, ternary, "layer");
    for (Tensor t : {normed, quantized, y}) g.keep(t);
    g.backward(y, tensor("gy"));
    Executable executable(g, "test");
    executable.run();
    auto expect_close = [&](const std::vector<float>& found, const std::string& name) {
        EXPECT_LT(test::relative_error(found, read_floats(file.get(name))), 1e-5) << name;
    };
    expect_close(test::read_floats(executable, normed), "x_norm");
    expect_close(test::read_floats(executable, quantized), "x_quant");
    expect_close(data.read(ternary), "w_quant");
    expect_close(test::read_floats(executable, y), "y");
    expect_close(data.read(dx), "gx");
    expect_close(data.read(dw), "gweight");
    expect_close(data.read(dnorm), "gnorm_weight");
}

}  // namespace
}  // namespace vkqat

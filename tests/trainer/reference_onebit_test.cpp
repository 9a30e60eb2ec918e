// onebit.safetensors: a layer forward and backward.
#include <filesystem>

#include "runtime/formats/safetensors.h"
#include "runtime/ops/onebit_linear.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"
#include "trainer/quantizer.h"

namespace vkqat {
namespace {

TEST(ReferenceOnebit, LayerForwardAndBackward) {
    auto path = test::reference_folder() / "onebit.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (VKQAT_REFERENCE)";
    SafetensorsFile file(path);
    Graph g(test::device(), Graph::Mode::training);
    test::Tensors data(g);
    auto tensor = [&](const std::string& name) {
        return data.floats(test::shape_of(file.get(name)), read_floats(file.get(name)), name);
    };
    const QuantizerConfig config{.kind = QuantizerKind::onebit};
    Tensor x = tensor("x"), weight = tensor("weight"), factor_in = tensor("input_factor"), factor_out = tensor("weight_scale");
    Tensor sign = data.poisoned(weight.shape(), "sign");
    quantize_weights(g, weight, sign, config, {}, "layer");
    Tensor dx = data.parameter_gradient(x), dw = data.parameter_gradient(sign);
    Tensor din = data.parameter_gradient(factor_in), dout = data.parameter_gradient(factor_out);
    Tensor y = onebit_linear(g, x, {{sign, factor_in, factor_out}}, "layer");
    g.keep(y);
    g.backward(y, tensor("gy"));
    quantizer_gradient(g, weight, dw, config, "layer");
    Executable executable(g, "test");
    executable.run();
    EXPECT_LT(test::relative_error(test::read_floats(executable, y), read_floats(file.get("y"))), 1e-5);
    EXPECT_LT(test::relative_error(data.read(dx), read_floats(file.get("gx"))), 1e-5);
    EXPECT_LT(test::relative_error(data.read(dw), read_floats(file.get("gweight"))), 1e-5);
    EXPECT_LT(test::relative_error(data.read(din), read_floats(file.get("ginput_factor"))), 1e-5);
    EXPECT_LT(test::relative_error(data.read(dout), read_floats(file.get("gweight_scale"))), 1e-5);
}

}  // namespace
}  // namespace vkqat

// bitdistiller.safetensors: KIND.gGROUP.INPUT is q(W), with .gy, its gradient, and .gw, that of W.
#include <filesystem>

#include "runtime/formats/safetensors.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"
#include "trainer/quantizer.h"

namespace vkqat {
namespace {

TEST(ReferenceBitdistiller, AsymmetricQuantizersForwardAndBackward) {
    auto path = test::reference_folder() / "bitdistiller.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (VKQAT_REFERENCE)";
    SafetensorsFile file(path);
    int cases = 0;
    for (const TensorView& tensor : file.tensors()) {
        const size_t dot = tensor.name.find(".g"), last = tensor.name.rfind('.');
        const bool integer = tensor.name.starts_with("int"), nf = tensor.name.starts_with("nf");
        if ((!integer && !nf) || last != tensor.name.find('.', dot + 1)) continue;
        SCOPED_TRACE(tensor.name);
        const QuantizerConfig config{.kind = integer ? QuantizerKind::int_asym : QuantizerKind::nf,
                                     .bits = std::stoi(tensor.name.substr(integer ? 3 : 2, 1)),
                                     .block_dim_2 = std::stoi(tensor.name.substr(dot + 2))};
        const TensorView& w = file.get("w." + tensor.name.substr(last + 1));
        Graph g(test::device());
        test::Tensors data(g);
        Tensor weight = data.floats({w.shape[0], w.shape[1]}, read_floats(w), "w"), q = data.poisoned(weight.shape(), "q");
        Tensor gradient = data.floats(weight.shape(), read_floats(file.get(tensor.name + ".gy")), "gradient");
        quantize_weights(g, weight, q, config, {}, tensor.name);
        quantizer_gradient(g, weight, gradient, config, tensor.name);
        Executable(g, "quantize").run();
        EXPECT_LT(test::relative_error(data.read(q), read_floats(tensor)), 1e-6);
        EXPECT_LT(test::relative_error(data.read(gradient), read_floats(file.get(tensor.name + ".gw"))), 1e-5);
        cases++;
    }
    EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace vkqat

// onebit.safetensors: a layer forward and backward.
#include <cmath>
#include <filesystem>

#include "runtime/formats/safetensors.h"
#include "runtime/ops/onebit_linear.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"
#include "trainer/onebit.h"
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

TEST(ReferenceOnebit, RankOneStartAndPackedSigns) {
    auto path = test::reference_folder() / "onebit.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (VKQAT_REFERENCE)";
    SafetensorsFile file(path);
    const TensorView &a = file.get("svid.a"), &w = file.get("weight");
    const std::vector<float> matrix = read_floats(a), expected = read_floats(file.get("svid.rank1_svd"));
    const OnebitStart start = onebit_start(matrix, a.shape[0], a.shape[1], "layer");
    std::vector<float> product;
    double error = 0, norm = 0;
    for (size_t i = 0; i < matrix.size(); i++) {
        const size_t row = i / start.input_factor.size(), column = i % start.input_factor.size();
        product.push_back(start.output_factor[row] * start.input_factor[column]);
        error += std::pow(double(std::abs(matrix[i])) - product[i], 2), norm += double(matrix[i]) * matrix[i];
        EXPECT_EQ(start.weight[i], matrix[i] < 0 ? -0.01f : 0.01f);
    }
    EXPECT_LT(test::relative_error(product, expected), 1e-5);
    EXPECT_LT(test::relative_error(product, read_floats(file.get("svid.out_x_in"))), 1e-5);
    EXPECT_NEAR(start.error, std::sqrt(error / norm), 1e-6);

    // On the device.
    Buffer weights = test::device().allocate(matrix.size() * 4, "weights"),
           room = test::device().allocate(weights.bytes(), "room");
    test::device().upload(weights, 0, std::as_bytes(std::span(matrix)));
    const OnebitStart found = onebit_start(
        test::device(), [&](Graph& g) { return g.external(weights, 0, test::shape_of(a), DType::f32, "weight"); }, room, "layer");
    std::vector<float> rank_one;
    for (size_t i = 0; i < matrix.size(); i++)
        rank_one.push_back(found.output_factor[i / found.input_factor.size()] *
                           found.input_factor[i % found.input_factor.size()]);
    EXPECT_LT(test::relative_error(rank_one, expected), 1e-5);
    EXPECT_NEAR(found.error, start.error, 1e-5);
    std::vector<float> signs_now(matrix.size());
    test::device().download(weights, 0, std::as_writable_bytes(std::span(signs_now)));
    EXPECT_EQ(signs_now, start.weight);

    const std::vector<uint8_t> packed = pack_signs(read_floats(w), w.shape[1]);
    const auto bytes = file.get("packed_int8").bytes;
    ASSERT_EQ(packed.size(), bytes.size());
    for (size_t i = 0; i < packed.size(); i++) EXPECT_EQ(packed[i], uint8_t(bytes[i]));
    const std::vector<float> signs = unpack_signs(packed, w.shape[1]), weight = read_floats(w);
    for (size_t i = 0; i < signs.size(); i++) EXPECT_EQ(signs[i], weight[i] < 0 ? -1.f : 1.f);
    EXPECT_THROW(pack_signs(weight, 12), Error);
    EXPECT_THROW(onebit_start(std::vector<float>(8, 0.f), 2, 4, "layer"), Error);
}

}  // namespace
}  // namespace vkqat

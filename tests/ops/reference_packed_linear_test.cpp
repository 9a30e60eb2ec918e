// packing.safetensors: bBITS.SCALE.{packed, scales_bf16, centroids, x, y}, y = x W^T.
#include <cstdlib>
#include <filesystem>
#include <regex>

#include "runtime/formats/safetensors.h"
#include "tests/support/packed.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

TEST(ReferencePackedLinear, ProductsOfEveryWidthAndStatistic) {
    std::filesystem::path path = test::reference_folder() / "packing.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (VKQAT_REFERENCE)";
    SafetensorsFile file(path);
    std::regex pattern(R"(b(\d+)\.(\w+)\.packed)");
    int cases = 0;
    for (const TensorView& packed : file.tensors()) {
        std::smatch match;
        if (!std::regex_match(packed.name, match, pattern)) continue;
        SCOPED_TRACE(packed.name);
        std::string prefix = packed.name.substr(0, packed.name.rfind('.') + 1);
        const TensorView &scales = file.get(prefix + "scales_bf16"), &x = file.get(prefix + "x");
        Graph g(test::device());
        test::Tensors data(g);
        const TensorView& centroids = file.get(prefix + "centroids");
        PackedWeight weight{.out = packed.shape[0], .in = x.shape[1], .bits = std::stoi(match[1])};
        weight.block_size = weight.in / scales.shape[1];
        weight.packed.resize(packed.bytes.size());
        std::memcpy(weight.packed.data(), packed.bytes.data(), packed.bytes.size());
        for (float s : read_floats(scales)) weight.scales.push_back(f32_to_bf16(s));
        weight.centroids = read_floats(centroids);
        PackedLayer w = test::tiled(g, data, {weight});
        Tensor tokens = data.floats({x.shape[0], x.shape[1]}, read_floats(x), "x");
        Tensor rows = packed_linear(g, tokens, w, "rows", {}, PackedLinearVariant::rows);
        const bool fits = w.block_size % 32 == 0;
        Tensor matvec = fits ? packed_linear(g, tokens, w, "matvec", {}, PackedLinearVariant::matvec) : rows;
        g.keep(rows);
        g.keep(matvec);
        Executable executable(g, "packed_linear");
        executable.run();
        std::vector<float> expected = read_floats(file.get(prefix + "y"));
        // Norm against norm: fp32, and fp16 products in the matvec.
        EXPECT_LE(test::relative_error(test::read_floats(executable, rows), expected), 1e-6);
        EXPECT_LE(test::relative_error(test::read_floats(executable, matvec), expected), 1e-3);
        cases++;
    }
    EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace vkqat

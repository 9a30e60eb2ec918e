// packing.safetensors: bBITS.SCALE.{packed, scales_bf16, centroids, x, y}, y = x W^T.
#include <cstdlib>
#include <filesystem>
#include <regex>

#include "runtime/formats/safetensors.h"
#include "runtime/ops/packed_linear.h"
#include "tests/support/gpu.h"
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
        PackedLayer w{.bits = std::stoi(match[1]), .out = packed.shape[0], .in = x.shape[1]};
        w.block_size = w.in / scales.shape[1];
        std::vector<uint8_t> bytes(packed.bytes.size());
        std::memcpy(bytes.data(), packed.bytes.data(), bytes.size());
        w.indices = data.bytes({w.out, packed.shape[1]}, bytes, "indices");
        w.scales = data.floats({w.out, scales.shape[1]}, read_floats(scales), "scales", DType::bf16);
        w.centroids = data.floats({int64_t(1) << w.bits}, read_floats(file.get(prefix + "centroids")), "centroids");
        Tensor tokens = data.floats({x.shape[0], x.shape[1]}, read_floats(x), "x");
        Tensor rows = packed_linear(g, tokens, w, "rows", PackedLinearVariant::rows);
        Tensor subgroup = packed_linear(g, tokens, w, "subgroup", PackedLinearVariant::subgroup);
        g.keep(rows);
        g.keep(subgroup);
        Executable executable(g, "packed_linear");
        executable.run();
        std::vector<float> expected = read_floats(file.get(prefix + "y"));
        // Both sides sum in fp32; norm against norm.
        EXPECT_LE(test::relative_error(test::read_floats(executable, rows), expected), 1e-6);
        EXPECT_LE(test::relative_error(test::read_floats(executable, subgroup), expected), 1e-6);
        cases++;
    }
    EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace vkqat

// quantizers.safetensors: every case is a name, KIND.[bBITS.][SCALE|BLOCK.]INPUT.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <regex>

#include "runtime/formats/safetensors.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"
#include "trainer/quantizer.h"

namespace vkqat {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> words(1);
    for (char c : text) {
        if (c == separator)
            words.emplace_back();
        else
            words.back() += c;
    }
    return words;
}

// "1x64", "8x32", "row", "tensor": block_dim_1 and block_dim_2
std::pair<int64_t, int64_t> parse_block(const std::string& text) {
    if (text == "row") return {1, 0};
    if (text == "tensor") return {0, 0};
    size_t x = text.find('x');
    return {std::stoll(text.substr(0, x)), std::stoll(text.substr(x + 1))};
}

TEST(ReferenceQuantizer, EveryQuantizerScaleBlockAndInput) {
    auto path = test::reference_folder() / "quantizers.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (VKQAT_REFERENCE)";
    SafetensorsFile file(path);
    std::string standard_block = "1x64";
    if (auto block = file.metadata().find("block"); block != file.metadata().end()) standard_block = split(block->second, ' ')[0];
    int cases = 0;
    for (const TensorView& tensor : file.tensors()) {
        std::vector<std::string> words = split(tensor.name, '.');
        if (words[0] == "w" || words.back() == "centroids") continue;
        SCOPED_TRACE(tensor.name);
        QuantizerConfig config;
        std::tie(config.block_dim_1, config.block_dim_2) = parse_block(standard_block);
        config.kind = words[0] == "kmeans" ? QuantizerKind::nonlinear : parse_quantizer_kind(words[0]);
        bool by_block = config.kind == QuantizerKind::ternary || config.kind == QuantizerKind::binary;
        if (by_block) {
            std::tie(config.block_dim_1, config.block_dim_2) = parse_block(words[1]);
            config.scale = ScaleStatistic::absmean;
        } else {
            config.bits = std::stoi(words[1].substr(1));
            config.scale = parse_scale_statistic(words[2]);
        }
        const TensorView& w = file.get("w." + words.back());
        Graph g(test::device());
        test::Tensors data(g);
        Tensor weight = data.floats({w.shape[0], w.shape[1]}, read_floats(w), "w"), q = data.poisoned(weight.shape(), "q");
        Tensor centroids;
        if (config.kind == QuantizerKind::nonlinear)
            centroids = data.floats({config.centroids()}, read_floats(file.get(tensor.name + ".centroids")), "centroids");
        quantize_weights(g, weight, q, config, centroids, tensor.name);
        Executable(g, "quantize").run();
        std::vector<float> found = data.read(q), expected = read_floats(tensor);
        ASSERT_EQ(found.size(), expected.size());
        int different = 0;
        for (size_t i = 0; i < found.size(); i++)
            different += !(std::abs(found[i] - expected[i]) <= 1e-6f * std::abs(expected[i]));
        EXPECT_EQ(different, 0) << "of " << found.size();
        cases++;
    }
    EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace vkqat

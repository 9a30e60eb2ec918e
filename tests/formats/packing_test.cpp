#include "runtime/formats/packing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/formats/fixtures.h"

namespace vkqat {
namespace {

TEST(Packing, FirstElementLiesInTheHighestBits) {
    EXPECT_EQ(pack_indices(std::vector<uint8_t>{1, 0, 0, 0, 0, 0, 1, 1}, 8, 1), (std::vector<uint8_t>{0b10000011}));
    EXPECT_EQ(pack_indices(std::vector<uint8_t>{3, 0, 1, 2}, 4, 2), (std::vector<uint8_t>{0b11000110}));
    EXPECT_EQ(pack_indices(std::vector<uint8_t>{0xa, 0x5}, 2, 4), (std::vector<uint8_t>{0xa5}));
    EXPECT_EQ(pack_indices(std::vector<uint8_t>{7, 255}, 2, 8), (std::vector<uint8_t>{7, 255}));
}

TEST(Packing, ThreeBitsAreADenseStream) {
    EXPECT_EQ(pack_indices(std::vector<uint8_t>{7, 0, 5, 2, 1, 6, 3, 4}, 8, 3),
              (std::vector<uint8_t>{0b11100010, 0b10100011, 0b10011100}));
}

TEST(Packing, UnpackIsTheInverse) {
    std::mt19937 random(3);
    for (int bits : {1, 2, 3, 4, 8}) {
        for (int64_t in : {8, 24, 72}) {
            std::vector<uint8_t> indices(size_t(in) * 5);
            for (uint8_t& index : indices) index = uint8_t(random() & ((1u << bits) - 1));
            std::vector<uint8_t> packed = pack_indices(indices, in, bits);
            EXPECT_EQ(packed.size(), size_t(packed_row_bytes(in, bits) * 5));
            EXPECT_EQ(unpack_indices(packed, in, bits), indices) << bits << " bits";
        }
    }
}

TEST(Packing, RefusesWhatDoesNotFit) {
    std::vector<uint8_t> indices = {0, 1, 2, 3};
    EXPECT_CONTAINS(error_of([&] { pack_indices(indices, 4, 5); }), "expected 1, 2, 3, 4 or 8 bits, found 5");
    EXPECT_CONTAINS(error_of([&] { pack_indices(indices, 4, 1); }), "no whole number of bytes");
    EXPECT_CONTAINS(error_of([&] {
                        pack_indices(std::vector<uint8_t>{0, 1, 2, 4}, 4, 2);
                    }),
                    "index 4 at element 3 does not fit in 2 bits");
    EXPECT_CONTAINS(error_of([&] { pack_indices(indices, 8, 2); }), "no whole number of rows");
    EXPECT_CONTAINS(error_of([&] { unpack_indices(indices, 8, 3); }), "no whole number of rows");
    EXPECT_CONTAINS(error_of([&] { packed_row_bytes(INT64_MAX, 8); }), "no whole number");
    EXPECT_CONTAINS(error_of([&] { packed_row_bytes(0, 8); }), "no whole number");
}

TEST(Packing, ScalesOfEachStatistic) {
    std::vector<float> weight = {3, -4, 0, 0, 1e-9f, 0, 0, 0};
    EXPECT_EQ(block_scales(weight, 8, 4, ScaleStatistic::absmax), (std::vector<float>{4, 1e-5f}));
    EXPECT_EQ(block_scales(weight, 8, 4, ScaleStatistic::absmean), (std::vector<float>{1.75f, 1e-5f}));
    EXPECT_EQ(block_scales(weight, 8, 4, ScaleStatistic::rms), (std::vector<float>{2.5f, 1e-5f}));
    EXPECT_EQ(block_scales(weight, 8, 4, ScaleStatistic::none), (std::vector<float>{1, 1}));
    std::vector<float> long_row(2000, 0.1f);  // more than one chunk, no multiple of a lane
    EXPECT_NEAR(block_scales(long_row, 2000, 2000, ScaleStatistic::absmean)[0], 0.1f, 1e-7);
    EXPECT_NEAR(block_scales(std::vector<float>(13, 2), 13, 13, ScaleStatistic::rms)[0], 2.0f, 0);
    for (const char* text : {"none", "absmax", "absmean", "rms"}) EXPECT_EQ(name(parse_scale_statistic(text)), text);
    EXPECT_CONTAINS(error_of([&] { parse_scale_statistic("abs"); }), "expected none, absmax, absmean or rms");
}

TEST(Packing, BoundaryBelongsToTheLowerCentroid) {
    std::vector<float> centroids = {-1, 0, 1, 3};
    float above = std::nextafter(0.5f, 1.0f);
    std::vector<float> weight = {-0.5f, 0.5f, above, 2, 2.5f, -100, 100, 0};
    PackedWeight packed = quantize_and_pack(weight, 1, 8, 8, centroids, ScaleStatistic::none);
    EXPECT_EQ(unpack_indices(packed.packed, 8, 2), (std::vector<uint8_t>{0, 1, 2, 2, 3, 0, 3, 1}));
    EXPECT_EQ(dequantize(packed), (std::vector<float>{-1, 0, 1, 1, 3, -1, 3, 0}));
}

TEST(Packing, IndicesComeFromTheScaleBeforeItIsRounded) {
    // absmax is 1 + 2^-9, which bf16 rounds to 1. The second weight is just below the boundary at half of the true scale, but
    // above half of the rounded one.
    float scale = 1.001953125f, just_below_half = 0.5008f;
    PackedWeight packed = quantize_and_pack(std::vector<float>{scale, just_below_half, 0, 0, 0, 0, 0, 0}, 1, 8, 8,
                                            std::vector<float>{0, 1}, ScaleStatistic::absmax);
    EXPECT_EQ(packed.scales, (std::vector<uint16_t>{f32_to_bf16(1.0f)}));
    EXPECT_EQ(packed.packed, (std::vector<uint8_t>{0x80}));
}

TEST(Packing, QuantizeRefusesBadInput) {
    std::vector<float> weight(64, 0.5f), table = {-1, 1};
    auto error = [&](std::vector<float> w, std::vector<float> c, int64_t out, int64_t in, int64_t block) {
        return error_of([&] { quantize_and_pack(w, out, in, block, c, ScaleStatistic::absmax); });
    };
    EXPECT_CONTAINS(error(weight, table, 2, 32, 24), "a block of 24 does not divide a row of 32");
    EXPECT_CONTAINS(error(weight, table, 2, 32, 0), "a block of 0");
    EXPECT_CONTAINS(error(weight, table, 3, 32, 8), "64 weights are no [3, 32]");
    EXPECT_CONTAINS(error(weight, {1, -1}, 2, 32, 8), "not sorted");
    EXPECT_CONTAINS(error(weight, {1, 2, 3}, 2, 32, 8), "expected 2, 4, 8, 16 or 256 centroids, found 3");
    EXPECT_CONTAINS(error(weight, {}, 2, 32, 8), "found 0");
    EXPECT_CONTAINS(error(weight, {0, std::numeric_limits<float>::infinity()}, 2, 32, 8), "centroid 1 is inf");
    weight[40] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_CONTAINS(error(weight, table, 2, 32, 8), "a weight in row 1 is nan");
}

// A model directory with one packed layer, whose tensors a test can spoil.
class PackedLayer : public testing::Test {
protected:
    ScratchFolder scratch;
    std::vector<float> weight;
    std::string quantization = R"({"quant_method":"nonlinear","bits":3,"packing":"dense_msb_first"})";
    struct Tensor {
        TensorInfo info;
        std::vector<std::byte> bytes;
    };
    std::vector<Tensor> tensors;
    PackedWeight packed;

    void make(std::vector<float> centroids) {
        std::mt19937 random(5);
        std::normal_distribution<float> normal;
        weight.resize(4 * 128);
        for (float& w : weight) w = normal(random);
        packed = quantize_and_pack(weight, 4, 128, 64, centroids, ScaleStatistic::absmean);
        auto bytes = [](const auto& values) {
            auto span = std::as_bytes(std::span(values));
            return std::vector<std::byte>(span.begin(), span.end());
        };
        tensors = {{{"p.weight_packed", DType::u8, {4, int64_t(packed.packed.size()) / 4}}, bytes(packed.packed)},
                   {{"p.scales", DType::bf16, {4, 2}}, bytes(packed.scales)},
                   {{"p.centroids", DType::f32, {int64_t(centroids.size())}}, bytes(packed.centroids)}};
    }
    std::optional<PackedLinear> find(int64_t out = 4, int64_t in = 128) {
        model.reset();
        std::vector<TensorInfo> infos;
        for (const Tensor& tensor : tensors) infos.push_back(tensor.info);
        write_tensors(scratch.path(), infos, [&](const TensorInfo& info, const TensorSink& sink) {
            for (const Tensor& tensor : tensors) {
                if (tensor.info.name == info.name) sink(tensor.bytes);
            }
        });
        if (!quantization.empty()) write_file(scratch / "quantization_config.json", quantization);
        model.emplace(ModelFiles::open(scratch.path()));
        return find_packed_linear(*model, "p", out, in);
    }
    std::string error(int64_t out = 4, int64_t in = 128) {
        std::string message = error_of([&] { find(out, in); });
        EXPECT_CONTAINS(message, scratch.path().string());
        EXPECT_CONTAINS(message, "'p'");
        return message;
    }
    std::optional<ModelFiles> model;
};

TEST_F(PackedLayer, IsFoundWithItsBitsAndBlockSize) {
    for (size_t n : {2, 4, 8, 16, 256}) {
        std::vector<float> centroids(n);
        for (size_t i = 0; i < n; ++i) centroids[i] = (float(i) + 0.5f) / float(n) * 5 - 2.5f;
        make(centroids);
        std::optional<PackedLinear> layer = find();
        ASSERT_TRUE(layer);
        EXPECT_EQ(size_t(1) << layer->bits, n);
        EXPECT_EQ(layer->block_size, 64);
        EXPECT_EQ(layer->bytes(), packed.packed.size() + 16 + 4 * n);
        PackedWeight loaded = load(*layer);
        EXPECT_EQ(loaded.packed, packed.packed);
        EXPECT_EQ(loaded.scales, packed.scales);
        EXPECT_EQ(dequantize(loaded), dequantize(packed));
    }
}

TEST_F(PackedLayer, IsAbsentWhereTheWeightIsPlain) {
    make({-1, 1});
    tensors.resize(1);
    tensors[0].info.name = "p.weight";
    EXPECT_FALSE(find());
}

TEST_F(PackedLayer, MustBeComplete) {
    for (size_t missing : {0, 1, 2}) {
        make({-1, 1});
        std::string part = tensors[missing].info.name.substr(2);
        tensors.erase(tensors.begin() + std::ptrdiff_t(missing));
        EXPECT_CONTAINS(error(), "the tensor " + part + " is missing");
    }
    make({-1, 1});
    tensors.push_back({{"p.weight", DType::u8, {1}}, std::vector<std::byte>(1)});
    EXPECT_CONTAINS(error(), "both weight and weight_packed");
}

TEST_F(PackedLayer, MustFitTheLayer) {
    make({-1, 1});
    EXPECT_CONTAINS(error(8, 128), "weight_packed: expected [8, 16] (128 inputs of 1 bits), found [4, 16]");
    EXPECT_CONTAINS(error(4, 256), "expected [4, 32]");
    EXPECT_CONTAINS(error(4, 100), "no whole number of bytes");
    make({-1, 1});
    tensors[0].info.shape = {64};
    EXPECT_CONTAINS(error(), "found [64]");
    for (std::vector<int64_t> shape : std::vector<std::vector<int64_t>>{{8}, {2, 4}, {8, 1}, {4, 2, 1}}) {
        make({-1, 1});
        tensors[1].info.shape = shape;
        EXPECT_CONTAINS(error(), "scales: expected [4, a divisor of 128]");
    }
    make({-1, 1});
    tensors[1] = {{"p.scales", DType::bf16, {4, 3}}, std::vector<std::byte>(24)};
    EXPECT_CONTAINS(error(), "found [4, 3]");
    make({-1, 1});
    tensors[1] = {{"p.scales", DType::bf16, {4, 0}}, {}};
    EXPECT_CONTAINS(error(), "found [4, 0]");
}

TEST_F(PackedLayer, MustHaveTheTypesOfTheFormat) {
    for (size_t i : {0, 1, 2}) {
        make({-1, 1});
        tensors[i].info.dtype = i == 0 ? DType::i8 : i == 1 ? DType::f16 : DType::i32;
        EXPECT_CONTAINS(error(), tensors[i].info.name.substr(2) + ": expected ");
    }
}

TEST_F(PackedLayer, MustHaveUsableNumbers) {
    make({-1, 1});
    std::swap_ranges(tensors[2].bytes.begin(), tensors[2].bytes.begin() + 4, tensors[2].bytes.begin() + 4);
    EXPECT_CONTAINS(error(), "not sorted");
    make({-1, 1});
    tensors[2].bytes = to_bytes(std::vector<float>{0, NAN}, DType::f32);
    EXPECT_CONTAINS(error(), "centroid 1 is nan");
    make({-1, 1});
    tensors[2] = {{"p.centroids", DType::f32, {3}}, to_bytes(std::vector<float>{0, 1, 2}, DType::f32)};
    EXPECT_CONTAINS(error(), "found 3");
    make({-1, 1});
    tensors[2].info.shape = {2, 1};
    EXPECT_CONTAINS(error(), "expected a list");
    for (float bad : {INFINITY, -INFINITY, NAN}) {
        make({-1, 1});
        tensors[1].bytes = to_bytes(std::vector<float>{1, 1, 1, 1, 1, bad, 1, 1}, DType::bf16);
        EXPECT_CONTAINS(error(), "scales: number 1 in row 2 is");
    }
}

TEST_F(PackedLayer, ThreeBitsNeedANamedLayout) {
    for (const char* text : {R"({"bits":3})", R"({"bits":3,"packing":"another"})"}) {
        make({-4, -3, -2, -1, 1, 2, 3, 4});
        quantization = text;
        EXPECT_CONTAINS(error(), "3 bits are packed in an unknown way");
    }
}

}  // namespace
}  // namespace vkqat

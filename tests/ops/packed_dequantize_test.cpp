#include "runtime/ops/packed_dequantize.h"

#include "tests/support/packed.h"

namespace vkqat {
namespace {

float rounded(float x, DType type) {
    return type == DType::f32 ? x : type == DType::f16 ? f16_to_f32(f32_to_f16(x)) : bf16_to_f32(f32_to_bf16(x));
}

// All tiles, three at a time, so that ranges begin and end within parts and across them.
TEST(PackedDequantize, RangesOfTilesAreExactWithinPartsAndAcrossThem) {
    for (int64_t in : {120, 1032})
        for (int bits : {1, 2, 3, 4, 8})
            for (DType type : {DType::f32, DType::f16, DType::bf16})
                for (float factor : {1.0f, 128.0f}) {
                    SCOPED_TRACE(fmt::format("{} columns, {} bits, {}", in, bits, name(type)));
                    const std::vector<PackedWeight> parts{test::random_packed(100, in, bits, 24, 9),
                                                          test::random_packed(34, in, bits, 24, 10),
                                                          test::random_packed(5, in, bits, 24, 11)};
                    std::vector<float> expected;
                    for (const PackedWeight& w : parts)
                        for (float x : dequantize(w)) expected.push_back(rounded(x * factor, type));
                    Graph g(test::device());
                    test::Tensors data(g);
                    const PackedLayer layer = test::tiled(g, data, parts);
                    if (!can_dequantize_tiles(g.capabilities(), layer)) GTEST_SKIP() << "the device is too small";
                    std::vector<Tensor> pieces;
                    for (int64_t tile = 0; tile < 7; tile += 3) {
                        const TileRange range = tile_range(layer, tile, std::min<int64_t>(3, 7 - tile));
                        pieces.push_back(data.poisoned({range.rows, in}, "weight", type));
                        dequantize_tiles(g, layer, range, factor, pieces.back(), "dequantize");
                    }
                    Executable(g, "dequantize").run();
                    std::vector<float> found;
                    for (Tensor t : pieces)
                        for (float x : data.read(t)) found.push_back(x);
                    ASSERT_EQ(found, expected);
                }
}

TEST(PackedDequantize, UnsuitableRangesAndTensorsAreErrors) {
    Graph g(test::device());
    test::Tensors data(g);
    const PackedLayer layer = test::tiled(g, data, {test::random_packed(40, 64, 4, 32, 1)});
    EXPECT_EQ(tile_range(layer, 1, 1).rows, 8);
    EXPECT_THROW(tile_range(layer, 0, 3), Error);
    EXPECT_THROW(tile_range(layer, -1, 1), Error);
    EXPECT_THROW(tile_range(layer, 0, 0), Error);
    const TileRange all = tile_range(layer, 0, 2);
    EXPECT_THROW(dequantize_tiles(g, layer, all, 1, data.poisoned({40, 96}, "weight", DType::f16), "d"), Error);
    EXPECT_THROW(dequantize_tiles(g, layer, all, 1, data.poisoned({40, 64}, "weight", DType::u32), "d"), Error);
    const PackedLayer odd = test::tiled(g, data, {test::random_packed(32, 40, 4, 20, 1)});
    EXPECT_FALSE(can_dequantize_tiles(g.capabilities(), odd));
    EXPECT_THROW(dequantize_tiles(g, odd, tile_range(odd, 0, 1), 1, data.poisoned({32, 40}, "weight", DType::f16), "d"), Error);
}

}  // namespace
}  // namespace vkqat

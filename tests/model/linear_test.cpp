// Linear layers of the model's graph: what their forms and tokens choose gives the same numbers.
#include <cmath>

#include "runtime/model/llama.h"
#include "tests/support/packed.h"

namespace vkqat {
namespace {

// BitNet b1.58 with a norm in front of the integers, in ternary tiles (in integers, or unpacked for many tokens) and dense.
TEST(Linear, TernaryLayersGiveWhatTheirDenseFormGives) {
    const int64_t in = 128, rows = 40;
    const float scale = 0.05f, eps = 1e-5f;
    for (bool five : {false, true})
        for (int64_t tokens : {1, 5, 21})
            for (bool swiglu : {false, true}) {
                SCOPED_TRACE(testing::Message() << "five " << five << ", " << tokens << " tokens, swiglu " << swiglu);
                Graph g(test::device());
                test::Tensors data(g);
                std::mt19937 random(3);
                std::vector<float> values;
                TernaryLayer layer{.five_to_a_byte = five, .in = in, .rows = {rows, rows}};
                layer.indices = data.poisoned({ternary_words(layer.rows, in, five)}, "indices", DType::u32);
                layer.scales = data.floats({2 * rows}, std::vector<float>(2 * rows, 1), "scales", DType::bf16);
                layer.centroids = data.floats({2, 4}, {-scale, 0, scale, scale, -scale, 0, scale, scale}, "centroids");
                for (int64_t part = 0; part < 2; part++) {
                    std::vector<uint8_t> indices(size_t(rows * in));
                    for (uint8_t& i : indices) i = uint8_t(random() % 3), values.push_back(scale * float(int(i) - 1));
                    const auto stored = five ? pack_ternary(indices, in) : pack_indices(indices, in, 2);
                    tile_ternary(g, data.bytes({rows, int64_t(stored.size()) / rows}, stored, "stored"), layer, part * 2);
                }
                const std::vector<float> ones(size_t(in), 1);
                Linear ternary{.dense = {}, .packed = {}},
                    dense{.dense = data.floats({2 * rows, in}, values, "dense"), .packed = {}};
                ternary.ternary = {layer};
                for (Linear* l : {&ternary, &dense}) {
                    l->quantize_inputs = true;
                    l->input_norm = data.floats({in}, ones, "ones");
                    l->input_eps = eps;
                }
                Tensor x = data.floats({tokens, in}, test::normal(size_t(tokens * in), 1, 2), "x");
                const int64_t columns = swiglu ? rows : 2 * rows;
                const LinearFusion fusion{
                    .norm = data.floats({in}, test::uniform(size_t(in), 2, 0.5f, 2), "norm"),
                    .eps = eps,
                    .residual = data.floats({tokens, columns}, test::normal(size_t(tokens * columns), 5), "r"),
                    .swiglu = swiglu};
                Tensor a = apply(g, x, ternary, "ternary", fusion), b = apply(g, x, dense, "dense", fusion);
                g.keep(a);
                g.keep(b);
                Executable executable(g, "linear");
                executable.run();
                // An input half-way between two integers may fall to the other one behind a norm that was summed in another
                // order: one of 127 steps of one weight, 0.05 * 3 / 127 where outputs are about 1.
                const std::vector<float> expected = test::read_floats(executable, b);
                EXPECT_LE(test::relative_error(test::read_floats(executable, a), expected), 2e-3);
            }
}

// Of two layers, the same apart from how they are stored.
void expect_same(Graph& g, test::Tensors& data, const Linear& a, const Linear& b, int64_t tokens, int64_t in, int64_t out,
                 bool swiglu, bool normed) {
    Tensor x = data.floats({tokens, in}, test::normal(size_t(tokens * in), 1, 2), "x");
    const int64_t columns = swiglu ? out / 2 : out;
    LinearFusion fusion{.eps = 1e-5f, .swiglu = swiglu};
    if (!swiglu) fusion.residual = data.floats({tokens, columns}, test::normal(size_t(tokens * columns), 5), "r");
    if (normed) fusion.norm = data.floats({in}, test::uniform(size_t(in), 2, 0.5f, 2), "norm");
    Tensor y = apply(g, x, a, "a", fusion), expected = apply(g, x, b, "b", fusion);
    g.keep(y);
    g.keep(expected);
    Executable executable(g, "linear");
    executable.run();
    // Kernels that fold compute in 16 bits.
    EXPECT_LE(test::relative_error(test::read_floats(executable, y), test::read_floats(executable, expected)), 5e-3);
}

TEST(Linear, PackedOnebitLayersGiveWhatTheirDenseFormGives) {
    const int64_t in = 128, rows = 40;
    for (int64_t tokens : {1, 3, 9})
        for (bool swiglu : {false, true})
            for (bool normed : {false, true}) {
                SCOPED_TRACE(testing::Message() << tokens << " tokens, swiglu " << swiglu << ", norm " << normed);
                Graph g(test::device());
                test::Tensors data(g);
                Linear packed{.dense = {}, .packed = {}}, dense{.dense = {}, .packed = {}};
                const std::vector<float> norm = test::uniform(size_t(in), 2, 0.5f, 2);
                std::vector<float> all, normed_factors;
                std::vector<PackedWeight> signs;
                for (uint32_t part = 0; part < 2; part++) {
                    PackedWeight w = test::random_packed(rows, in, 1, in, 7 + part);
                    w.centroids = {-1, 1};
                    for (uint16_t& s : w.scales) s = f32_to_bf16(1);
                    const std::vector<float> gs = test::uniform(size_t(in), 20 + part, 0.5f, 2),
                                             h = test::uniform(size_t(rows), 30 + part, 0.5f, 2);
                    std::vector<float> product = gs;
                    for (size_t i = 0; i < product.size(); i++) product[i] *= norm[i];
                    all.insert(all.end(), h.begin(), h.end());
                    Tensor input = data.floats({in}, gs, "g"), output = data.floats({rows}, h, "h");
                    dense.onebit.push_back({data.floats({rows, in}, dequantize(w), "sign"), input, output});
                    normed_factors.insert(normed_factors.end(), product.begin(), product.end());
                    signs.push_back(w);
                }
                packed.onebit_signs = test::tiled(g, data, signs);
                packed.onebit_normed = data.floats({2, in}, normed_factors, "normed");
                for (size_t part = 0; part < 2; part++)
                    packed.packed_onebit.push_back({packed_part(g, packed.onebit_signs, part), dense.onebit[part].input_factor,
                                                    dense.onebit[part].output_factor});
                packed.onebit_factors = data.floats({2 * rows}, all, "factors");
                expect_same(g, data, packed, dense, tokens, in, 2 * rows, swiglu, normed);
            }
}

TEST(Linear, AsymmetricLayersGiveWhatTheirDenseFormGives) {
    const int64_t in = 128, rows = 40, block = 32, blocks = in / block;
    for (bool negative : {false, true})
        for (int64_t tokens : {1, 3, 9})
            for (bool swiglu : {false, true}) {
                SCOPED_TRACE(testing::Message() << tokens << " tokens, swiglu " << swiglu << ", negative " << negative);
                Graph g(test::device());
                test::Tensors data(g);
                // Tables of -1 .. 1; zero points of 0 to 3, the middle of the file's table is 1.5.
                std::vector<PackedWeight> parts, below;
                std::vector<float> values;
                std::vector<uint8_t> zeros;
                const float center = 1.5f;
                for (uint32_t part = 0; part < 2; part++) {
                    PackedWeight w = test::random_packed(rows, in, 2, block, 7 + part), n = w;
                    std::vector<float> full = dequantize(w);
                    for (uint16_t& s : n.scales) s = f32_to_bf16(1.5f * bf16_to_f32(s));
                    const std::vector<float> other = dequantize(n);
                    std::vector<uint8_t> zero(size_t((rows + 31) / 32 * 32 * blocks), 0);  // [quads, blocks, 4]
                    for (size_t i = 0; i < full.size(); i++) {
                        const size_t b = i / size_t(block), row = b / size_t(blocks);
                        const auto z = uint8_t((b * 7 + part) % 4);
                        zero[(row / 4 * size_t(blocks) + b % size_t(blocks)) * 4 + row % 4] = z;
                        if (!negative) full[i] += (center - float(z)) * bf16_to_f32(w.scales[b]);
                        if (negative && full[i] < 0) full[i] = other[i];
                    }
                    zeros.insert(zeros.end(), zero.begin(), zero.end());
                    parts.push_back(w);
                    below.push_back(n);
                    values.insert(values.end(), full.begin(), full.end());
                }
                Linear packed{.dense = {}, .packed = {test::tiled(g, data, parts)}},
                    dense{.dense = data.floats({2 * rows, in}, values, "dense"), .packed = {}};
                if (negative) {
                    packed.of_blocks = {{.negative_scales = test::tiled(g, data, below).scales}};
                    std::vector<float> above_zero, below_zero;
                    for (const PackedWeight& w : parts)
                        for (float c : w.centroids)
                            above_zero.push_back(std::max(c, 0.f)), below_zero.push_back(std::min(c, 0.f));
                    packed.above = {data.floats({2, 4}, above_zero, "above")};
                    packed.below = {data.floats({2, 4}, below_zero, "below")};
                } else {
                    packed.of_blocks = {{.zeros = data.bytes({int64_t(zeros.size())}, zeros, "zeros"), .center = center}};
                }
                expect_same(g, data, packed, dense, tokens, in, 2 * rows, swiglu, true);
            }
}

}  // namespace
}  // namespace vkqat

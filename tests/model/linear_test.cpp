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

}  // namespace
}  // namespace vkqat

#include "runtime/ops/packed_matmul.h"

#include "runtime/ops/matmul.h"
#include "tests/support/packed.h"

namespace vkqat {
namespace {

struct Case {
    int bits;
    int64_t block_size, in;
    std::vector<int64_t> rows;
    int64_t tokens;
};

// W in double, and y.
std::vector<double> reference(const std::vector<PackedWeight>& parts, const std::vector<float>& x, int64_t tokens) {
    std::vector<double> y;
    const int64_t in = parts[0].in;
    for (int64_t t = 0; t < tokens; t++)
        for (const PackedWeight& w : parts) {
            std::vector<uint8_t> indices = unpack_indices(w.packed, in, w.bits);
            for (int64_t o = 0; o < w.out; o++) {
                double sum = 0;
                for (int64_t i = 0; i < in; i++)
                    sum += double(x[size_t(t * in + i)]) * double(w.centroids[indices[size_t(o * in + i)]]) *
                           double(bf16_to_f32(w.scales[size_t(o * (in / w.block_size) + i / w.block_size)]));
                y.push_back(sum);
            }
        }
    return y;
}

std::vector<PackedWeight> parts_of(const Case& c) {
    std::vector<PackedWeight> parts;
    for (size_t i = 0; i < c.rows.size(); i++)
        parts.push_back(test::random_packed(c.rows[i], c.in, c.bits, c.block_size, uint32_t(10 * i + 1)));
    return parts;
}

bool offered(DType type) {
    return has_matrix_units(test::device().capabilities(), type == DType::bf16 ? Precision::bf16 : Precision::f16);
}

// Rounding to the nearest errs by up to 2^-11 (f16) or 2^-8 (bf16), in the root mean square by 2.0e-4 or 1.6e-3; two operands by
// sqrt(2) times that, f16 weights, rounded twice, by sqrt(3): 3.5e-4 and 2.3e-3. Measured on an H200 for f16: 3.4e-4. Rounding
// towards zero has a bias and gives 6e-3 with bf16: that is an error, and must not pass.
double tolerance(DType type) { return type == DType::f16 ? 6e-4 : 4e-3; }

class PackedMatmul : public testing::TestWithParam<DType> {
protected:
    void SetUp() override {
        if (!offered(GetParam())) GTEST_SKIP() << "no matrix units for " << name(GetParam());
    }
    // y's error against the reference; x as `x_type`.
    double error(const Case& c, std::vector<float> x, DType x_type, const PackedMatmulOptions& options) {
        auto parts = parts_of(c);
        Graph g(test::device());
        test::Tensors data(g);
        PackedLayer layer = test::tiled(g, data, parts);
        Tensor input = data.floats({c.tokens, c.in}, x, "x", x_type);
        Tensor y = data.poisoned({c.tokens, layer.out()}, "y");
        packed_matmul_into(g, input, layer, {}, y, 0, "y", options);
        Executable(g, "packed_matmul").run();
        return test::relative_error(data.read(y), reference(parts, data.read(input), c.tokens));
    }
};

TEST_P(PackedMatmul, MatchesTheReferenceForEveryBitWidth) {
    for (int bits : {1, 2, 3, 4, 8})
        for (const Case& c : {Case{bits, 32, 96, {40}, 5}, Case{bits, 128, 384, {64}, 37}})
            EXPECT_LT(error(c, test::normal(size_t(c.tokens * c.in), 3), DType::f32, {.type = GetParam()}), tolerance(GetParam()))
                << bits << " bits, " << c.in;
}

TEST_P(PackedMatmul, PartsOfAnySizeHaveTheirOwnCentroids) {
    for (const auto& rows : {std::vector<int64_t>{33, 70, 9}, {96, 32}}) {
        Case c{2, 64, 192, rows, 21};
        EXPECT_LT(error(c, test::normal(size_t(c.tokens * c.in), 4), DType::f32, {.type = GetParam()}), tolerance(GetParam()));
    }
}

TEST_P(PackedMatmul, ActivationsMayHave16Bits) {
    Case c{4, 32, 64, {64}, 16};
    for (DType type : {DType::f16, DType::bf16})
        EXPECT_LT(error(c, test::normal(size_t(c.tokens * c.in), 5), type, {.type = GetParam()}), tolerance(GetParam()));
}

TEST_P(PackedMatmul, ActivationsOfAnySizeDoNotOverflow) {
    Case c{4, 32, 128, {32}, 8};
    auto parts = parts_of(c);
    std::vector<float> x = test::normal(size_t(c.tokens * c.in), 6);
    for (int64_t t = 0; t < c.tokens; t++)
        for (int64_t i = 0; i < c.in; i++) x[size_t(t * c.in + i)] *= t == 7 ? 0 : std::pow(10.f, 4.f * float(t) - 14);
    Graph g(test::device());
    test::Tensors data(g);
    PackedLayer layer = test::tiled(g, data, parts);
    Tensor y = packed_matmul(g, data.floats({c.tokens, c.in}, x, "x"), layer, {}, "y", {.type = GetParam()});
    g.keep(y);
    Executable executable(g, "packed_matmul");
    executable.run();
    auto values = test::read_floats(executable, y);
    auto expected = reference(parts, x, c.tokens);
    for (int64_t t = 0; t < 7; t++) {  // each token for itself
        auto row = [&](auto& all) { return std::vector(all.begin() + t * 32, all.begin() + (t + 1) * 32); };
        EXPECT_LT(test::relative_error(row(values), row(expected)), 2 * tolerance(GetParam())) << "token " << t;
    }
    for (int64_t i = 0; i < 32; i++) EXPECT_EQ(values[size_t(7 * 32 + i)], 0);
}

TEST_P(PackedMatmul, WritesItsColumnsOnTopOfTheResidual) {
    for (int64_t first_column : {3, 8}) {
        Case c{4, 32, 64, {32, 64}, 33};
        auto parts = parts_of(c);
        std::vector<float> x = test::normal(size_t(c.tokens * c.in), 7), before = test::normal(size_t(c.tokens * 112), 8);
        Graph g(test::device());
        test::Tensors data(g);
        PackedLayer layer = test::tiled(g, data, parts);
        Tensor y = data.floats({c.tokens, 112}, before, "y");
        packed_matmul_into(g, data.floats({c.tokens, c.in}, x, "x"), layer, y, y, first_column, "y", {.type = GetParam()});
        Executable(g, "packed_matmul").run();
        auto product = reference(parts, x, c.tokens);
        std::vector<double> expected(before.begin(), before.end());
        for (int64_t t = 0; t < c.tokens; t++)
            for (int64_t o = 0; o < 96; o++) expected[size_t(t * 112 + first_column + o)] += product[size_t(t * 96 + o)];
        auto values = data.read(y);
        EXPECT_LT(test::relative_error(values, expected), tolerance(GetParam()));
        for (int64_t t = 0; t < c.tokens; t++)
            for (int64_t o = 0; o < 112; o++)
                if (o < first_column || o >= first_column + 96) {
                    EXPECT_EQ(values[size_t(t * 112 + o)], before[size_t(t * 112 + o)]) << "beside the product";
                }
    }
}

TEST_P(PackedMatmul, SlicesOfTheUnpackedWeightMatchTheReference) {
    for (const Case& c : {Case{4, 32, 96, {40}, 5}, Case{3, 64, 192, {160, 33, 290}, 130}, Case{1, 32, 64, {512}, 100}})
        for (int64_t slice_bytes : {0, 128 * 192 * 2})
            for (DType x_type : {DType::f32, GetParam()}) {
                PackedMatmulOptions options{.type = GetParam(), .unpacked = true, .slice_bytes = slice_bytes};
                EXPECT_LT(error(c, test::normal(size_t(c.tokens * c.in), 3), x_type, options), tolerance(GetParam()));
            }
}

TEST_P(PackedMatmul, SlicesWriteTheirColumnsOnTopOfTheResidual) {
    Case c{4, 32, 64, {160, 96}, 128};
    auto parts = parts_of(c);
    std::vector<float> x = test::normal(size_t(c.tokens * c.in), 7), before = test::normal(size_t(c.tokens * 288), 8);
    for (int64_t first_column : {3, 28}) {
        Graph g(test::device());
        test::Tensors data(g);
        PackedLayer layer = test::tiled(g, data, parts);
        Tensor y = data.floats({c.tokens, 288}, before, "y");
        packed_matmul_into(g, data.floats({c.tokens, c.in}, x, "x"), layer, y, y, first_column, "y",
                           {.type = GetParam(), .unpacked = true, .slice_bytes = 128 * 64 * 2});
        Executable(g, "packed_matmul").run();
        auto product = reference(parts, x, c.tokens);
        std::vector<double> expected(before.begin(), before.end());
        for (int64_t t = 0; t < c.tokens; t++)
            for (int64_t o = 0; o < 256; o++) expected[size_t(t * 288 + first_column + o)] += product[size_t(t * 256 + o)];
        auto values = data.read(y);
        EXPECT_LT(test::relative_error(values, expected), tolerance(GetParam()));
        for (size_t t = 0; t < 128; t++) {
            const size_t left = t * 288 + size_t(first_column) - 1, right = left + 257;
            EXPECT_EQ(values[left], before[left]);
            EXPECT_EQ(values[right], before[right]);
        }
    }
}

TEST_P(PackedMatmul, EveryBlockThatTheDeviceAllows) {
    int computed = 0;
    for (int tile = 0; tile < 7; tile++) {
        Case c{4, 64, 256, {160, 128}, 136};
        try {
            EXPECT_LT(error(c, test::normal(size_t(c.tokens * c.in), 9), DType::f32, {.type = GetParam(), .tile = tile}),
                      tolerance(GetParam()))
                << "tile " << tile;
            computed++;
        } catch (const Error&) {  // too large for the device
        }
    }
    EXPECT_GT(computed, 0);
}

TEST_P(PackedMatmul, UnsuitableTensorsAreErrors) {
    Case c{4, 32, 64, {32}, 4};
    Graph g(test::device());
    test::Tensors data(g);
    PackedLayer layer = test::tiled(g, data, parts_of(c));
    auto x = [&](int64_t cols) { return data.floats({4, cols}, std::vector<float>(size_t(4 * cols)), "x"); };
    EXPECT_THROW(packed_matmul(g, x(96), layer, {}, "y", {.type = GetParam()}), Error);
    EXPECT_THROW(packed_matmul(g, x(64), layer, x(64), "y", {.type = GetParam()}), Error);
    EXPECT_THROW(packed_matmul(g, x(64), layer, {}, "y", {.type = DType::f32}), Error);
    EXPECT_THROW(packed_matmul(g, x(64), layer, {}, "y", {.type = GetParam(), .tile = 99}), Error);
    EXPECT_THROW(packed_matmul_into(g, x(64), layer, {}, data.poisoned({4, 40}, "y"), 9, "y", {.type = GetParam()}), Error);
    PackedLayer odd = test::tiled(g, data, {test::random_packed(32, 48, 4, 16, 1)});
    EXPECT_FALSE(has_packed_matmul(g.capabilities(), odd));
    EXPECT_THROW(packed_matmul(g, x(48), odd, {}, "y", {.type = GetParam()}), Error);
}

INSTANTIATE_TEST_SUITE_P(Types, PackedMatmul, testing::Values(DType::f16, DType::bf16),
                         [](const auto& type) { return std::string(name(type.param)); });

}  // namespace
}  // namespace vkqat

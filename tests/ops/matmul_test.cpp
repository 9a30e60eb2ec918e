#include "runtime/ops/matmul.h"

#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

struct Case {
    int64_t m, n, k;
};
const std::vector<Case> cases = {{1, 8, 32},   {1, 1, 1},    {1, 257, 130}, {2, 3, 5},     {7, 9, 11},     {8, 64, 16},
                                 {33, 65, 31}, {64, 7, 128}, {5, 128, 64},  {96, 48, 100}, {130, 172, 64}, {17, 33, 1}};
// For variants that CPU drivers take seconds to compile, once for each alignment: edges in every direction, and whole tiles.
const std::vector<Case> few_cases = {{3, 5, 1}, {33, 65, 31}, {64, 64, 32}, {40, 72, 104}};
const std::vector<Case> two_cases = {{33, 65, 31}, {40, 72, 104}};
const std::vector<Case> large_cases = {{33, 65, 31}, {130, 136, 64}};

std::vector<double> reference(Product product, const Case& c, const std::vector<float>& a, const std::vector<float>& b,
                              const std::vector<float>* base) {
    std::vector<double> out(size_t(c.m * c.n), 0);
    for (int64_t i = 0; i < c.m; i++)
        for (int64_t j = 0; j < c.n; j++) {
            double sum = base ? double((*base)[size_t(i * c.n + j)]) : 0;
            for (int64_t k = 0; k < c.k; k++) {
                float x = a[size_t(product == Product::tn ? k * c.m + i : i * c.k + k)];
                float y = b[size_t(product == Product::nt ? j * c.k + k : k * c.n + j)];
                sum += double(x) * double(y);
            }
            out[size_t(i * c.n + j)] = sum;
        }
    return out;
}

// A way to compute a product, with the error that it may have: fp32 sums of up to 160 products lose some ulps; operands rounded
// to f16 (11 bits) or bf16 (8 bits) lose about sqrt(2 / 12) ulps of theirs, 2.3e-3 with bf16. Towards zero it would be 6e-3: that
// must not pass.
constexpr int last_matrix_tile = 7;
struct Way {
    std::string name;
    Precision precision;
    MatmulOptions options;
    double tolerance;
    std::vector<Case> shapes = cases;
    std::vector<Case> shapes_16bit = cases;  // where b is f16 or bf16
};

std::vector<Way> ways() {
    std::vector<Way> list{{"portable", Precision::f32, {.variant = MatmulVariant::portable}, 2e-6},
                          {"automatic", Precision::f32, {}, 2e-6}};
    list.push_back({"tiled0", Precision::f32, {.variant = MatmulVariant::tiled, .tile = 0}, 2e-6, large_cases, {}});
    list.push_back({"tiled1", Precision::f32, {.variant = MatmulVariant::tiled, .tile = 1}, 2e-6, few_cases, two_cases});
    for (Precision precision : {Precision::f16, Precision::bf16}) {
        std::string type = precision == Precision::f16 ? "f16" : "bf16";
        double tolerance = precision == Precision::f16 ? 7e-4 : 5e-3;
        auto add = [&](const std::string& what, const MatmulOptions& options, const std::vector<Case>& shapes,
                       const std::vector<Case>& shapes_16bit) {
            list.push_back({what + "_" + type, precision, options, tolerance, shapes, shapes_16bit});
        };
        // All blocks; which of them run depends on the device. The last runs everywhere.
        for (int tile = 0; tile < last_matrix_tile; tile++)
            add(fmt::format("matrix_units{}", tile), {.variant = MatmulVariant::matrix_units, .tile = tile},
                {tile < 3 ? Case{130, 136, 64} : Case{40, 72, 104}}, {});
        add(fmt::format("matrix_units{}", last_matrix_tile), {.variant = MatmulVariant::matrix_units, .tile = last_matrix_tile},
            few_cases, two_cases);
        add("automatic", {}, two_cases, {});
    }
    return list;
}

// Empty, or why the device cannot run it: the smallest tile serves every device with matrix units, larger ones some.
std::string unavailable(const Way& way) {
    if (way.options.variant != MatmulVariant::matrix_units) return "";
    if (!has_matrix_units(test::device().capabilities(), way.precision)) return "no matrix units for " + way.name;
    if (way.options.tile == last_matrix_tile) return "";
    try {
        Graph g(test::device());
        g.set_precision(way.precision);
        test::Tensors data(g);
        Tensor x = data.floats({64, 64}, std::vector<float>(64 * 64), "x");
        matmul(g, Product::nt, x, x, {}, g.like(x, "y"), "matmul", way.options);
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

struct Problem {
    Shape a, b;
    std::vector<float> a_values, b_values, base_values;
};

Problem problem(Product product, const Case& c, uint32_t seed) {
    Problem p{product == Product::tn ? Shape{c.k, c.m} : Shape{c.m, c.k},
              product == Product::nt ? Shape{c.n, c.k} : Shape{c.k, c.n},
              {},
              {},
              {}};
    p.a_values = test::normal(size_t(p.a.elements()), seed);
    p.b_values = test::normal(size_t(p.b.elements()), seed + 1);
    p.base_values = test::normal(size_t(c.m * c.n), seed + 2);
    return p;
}

using Operands = std::tuple<Product, DType>;
std::vector<std::tuple<Operands, Way>> combinations() {
    std::vector<std::tuple<Operands, Way>> list;
    for (const Way& way : ways())
        for (Product product : {Product::nt, Product::nn, Product::tn})
            for (DType type : {DType::f32, DType::f16, DType::bf16})
                if (type == DType::f32 || (!way.shapes_16bit.empty() && product != Product::tn))
                    list.push_back({{product, type}, way});
    return list;
}

// k cut into parts: whole ones, and a last one that is shorter.
TEST(MatmulParts, SumsOfPartsAreTheProduct) {
    const Case c{33, 40, 200};
    for (Precision precision : {Precision::f32, Precision::f16, Precision::bf16}) {
        const bool units = precision != Precision::f32;
        if (units && !has_matrix_units(test::device().capabilities(), precision)) continue;
        for (Product product : {Product::nt, Product::nn, Product::tn})
            for (bool with_base : {false, true}) {
                Graph g(test::device());
                g.set_precision(precision);
                test::Tensors data(g);
                Problem p = problem(product, c, 71);
                Tensor a = data.floats(p.a, p.a_values, "a"), b = data.floats(p.b, p.b_values, "b");
                Tensor base = with_base ? data.floats({c.m, c.n}, p.base_values, "base") : Tensor();
                Tensor y = data.poisoned({c.m, c.n}, "y");
                MatmulOptions options{.variant = units ? MatmulVariant::matrix_units : MatmulVariant::tiled,
                                      .tile = units ? last_matrix_tile : 1,
                                      .parts = 3};
                matmul(g, product, a, b, base, y, "matmul", options);
                ASSERT_EQ(g.nodes().size(), 2u);  // the parts and their sum
                Executable(g, "matmul").run();
                const double tolerance = precision == Precision::f32 ? 2e-6 : precision == Precision::f16 ? 7e-4 : 5e-3;
                EXPECT_LT(test::relative_error(
                              data.read(y), reference(product, c, p.a_values, p.b_values, with_base ? &p.base_values : nullptr)),
                          tolerance);
            }
    }
}

TEST(MatmulParts, ALongProductIsCutByItself) {
    const Case c{40, 48, 4000};
    Graph g(test::device());
    test::Tensors data(g);
    Problem p = problem(Product::nt, c, 5);
    Tensor y = data.poisoned({c.m, c.n}, "y");
    matmul(g, Product::nt, data.floats(p.a, p.a_values, "a"), data.floats(p.b, p.b_values, "b"), {}, y, "matmul",
           {.variant = MatmulVariant::tiled});
    EXPECT_EQ(g.nodes().size(), 2u);
    Executable(g, "matmul").run();
    EXPECT_LT(test::relative_error(data.read(y), reference(Product::nt, c, p.a_values, p.b_values, nullptr)), 2e-6);
}

std::string text(Product product) { return product == Product::nt ? "nt" : product == Product::nn ? "nn" : "tn"; }

class Matmul : public testing::TestWithParam<std::tuple<Operands, Way>> {};

TEST_P(Matmul, MatchesTheReferenceForOddShapesWithAndWithoutBase) {
    auto [operands, way] = GetParam();
    auto [product, type] = operands;
    if (std::string why = unavailable(way); !why.empty()) GTEST_SKIP() << why;
    uint32_t seed = 1;
    double worst = 0;
    for (const Case& c : type == DType::f32 ? way.shapes : way.shapes_16bit) {
        for (bool with_base : {false, true}) {
            Graph g(test::device());
            g.set_precision(way.precision);
            test::Tensors data(g);
            Problem p = problem(product, c, seed += 3);
            Tensor a = data.floats(p.a, p.a_values, "a");
            Tensor b = data.floats(p.b, p.b_values, "b", type);
            Tensor base;
            if (with_base) base = data.floats({c.m, c.n}, p.base_values, "base");
            Tensor y = data.poisoned({c.m, c.n}, "y");
            matmul(g, product, a, b, base, y, "matmul", way.options);
            Executable(g, "matmul").run();
            auto expected = reference(product, c, p.a_values, data.read(b), with_base ? &p.base_values : nullptr);
            double error = test::relative_error(data.read(y), expected);
            EXPECT_LT(error, way.tolerance) << c.m << " x " << c.n << " x " << c.k << " by "
                                            << g.nodes().back().pipeline->kernel.shader;
            worst = std::max(worst, error);
        }
    }
    RecordProperty("worst_relative_error", std::to_string(worst));
}

std::string label(const testing::TestParamInfo<Matmul::ParamType>& info) {
    auto [operands, way] = info.param;
    auto [product, type] = operands;
    return text(product) + "_" + std::string(name(type)) + "_" + way.name;
}

INSTANTIATE_TEST_SUITE_P(All, Matmul, testing::ValuesIn(combinations()), label);

TEST(MatmulVariants, BothOperandsMayHave16Bits) {
    for (Precision precision : {Precision::f32, Precision::f16, Precision::bf16}) {
        if (precision != Precision::f32 && !has_matrix_units(test::device().capabilities(), precision)) continue;
        for (Product product : {Product::nt, Product::nn, Product::tn}) {
            for (auto [a_type, b_type] :
                 {std::pair(DType::f16, DType::f16), {DType::bf16, DType::f32}, {DType::f32, DType::bf16}}) {
                for (const Case& c : {Case{33, 65, 31}, Case{40, 72, 104}}) {
                    if (c.k == 31 && a_type != DType::bf16) continue;  // takes long to compile on a CPU
                    Graph g(test::device());
                    g.set_precision(precision);
                    test::Tensors data(g);
                    Problem p = problem(product, c, 7);
                    Tensor a = data.floats(p.a, p.a_values, "a", a_type), b = data.floats(p.b, p.b_values, "b", b_type);
                    Tensor y = data.poisoned({c.m, c.n}, "y");
                    matmul(g, product, a, b, {}, y, "matmul");
                    Executable(g, "matmul").run();
                    // The operands as they are stored; products in f16 round bf16's not at all, those in bf16 round f16's.
                    double tolerance = precision == Precision::bf16 ? 5e-3 : precision == Precision::f16 ? 7e-4 : 2e-6;
                    EXPECT_LT(test::relative_error(data.read(y), reference(product, c, data.read(a), data.read(b), nullptr)),
                              tolerance)
                        << text(product) << " " << name(a_type) << " " << name(b_type) << " " << c.m;
                }
            }
        }
    }
}

TEST(MatmulVariants, OperandsAtAnyAddressAndABaseThatIsTheResult) {
    const Case c{40, 48, 64};
    for (const Way& way : ways()) {
        if (!unavailable(way).empty()) continue;
        for (Product product : {Product::nt, Product::nn, Product::tn}) {
            Graph g(test::device());
            g.set_precision(way.precision);
            test::Tensors data(g);
            Problem p = problem(product, c, 5);
            auto shifted = [&](std::vector<float> values, const std::string& name) {  // one element in front
                values.insert(values.begin(), NAN);
                values.push_back(NAN);
                return data.floats({int64_t(values.size())}, values, name);
            };
            auto inner = [&](Tensor whole, const Shape& shape) { return g.view(whole, 4, shape, "view of " + whole.name()); };
            Tensor y = shifted(p.base_values, "y"), y_inner = inner(y, {c.m, c.n});
            matmul(g, product, inner(shifted(p.a_values, "a"), p.a), inner(shifted(p.b_values, "b"), p.b), y_inner, y_inner,
                   "matmul", way.options);
            Executable(g, "matmul").run();
            auto values = data.read(y);
            EXPECT_TRUE(std::isnan(values.front()) && std::isnan(values.back())) << way.name << ": written beside the result";
            values = {values.begin() + 1, values.end() - 1};
            EXPECT_LT(test::relative_error(values, reference(product, c, p.a_values, p.b_values, &p.base_values)), way.tolerance)
                << way.name << " " << text(product);
        }
    }
}

TEST(MatmulVariants, RunsAreEqualBitForBit) {
    const Case c{70, 66, 130};
    for (const Way& way : ways()) {
        if (!unavailable(way).empty()) continue;
        Graph g(test::device());
        g.set_precision(way.precision);
        test::Tensors data(g);
        Problem p = problem(Product::nt, c, 9);
        Tensor y = data.poisoned({c.m, c.n}, "y");
        matmul(g, Product::nt, data.floats(p.a, p.a_values, "a"), data.floats(p.b, p.b_values, "b"), {}, y, "matmul",
               way.options);
        Executable executable(g, "matmul");
        executable.run();
        auto first = data.read(y);
        executable.run();
        EXPECT_EQ(first, data.read(y)) << way.name;
    }
}

TEST(MatmulVariants, NothingOutsideTheMatricesIsUsed) {
    // k ends inside a step: what lies behind the rows, here the next row's infinities, must not be multiplied by the padding.
    for (const Way& way : ways()) {
        if (!unavailable(way).empty()) continue;
        const Case c{40, 72, 24};
        Graph g(test::device());
        g.set_precision(way.precision);
        test::Tensors data(g);
        Problem p = problem(Product::tn, c, 3);
        auto followed = [&](const Shape& shape, std::vector<float> values, const std::string& name) {
            values.resize(values.size() + 64 * 72, INFINITY);
            return g.view(data.floats({int64_t(values.size())}, values, name), 0, shape, name);
        };
        Tensor y = data.poisoned({c.m, c.n}, "y");
        matmul(g, Product::tn, followed(p.a, p.a_values, "a"), followed(p.b, p.b_values, "b"), {}, y, "matmul", way.options);
        Executable(g, "matmul").run();
        EXPECT_LT(test::relative_error(data.read(y), reference(Product::tn, c, p.a_values, p.b_values, nullptr)), way.tolerance)
            << way.name;
    }
}

TEST(MatmulVariants, MatrixUnitsServeTheGraphsPrecisionOnly) {
    auto shader = [](Precision precision, const MatmulOptions& options) {
        Graph g(test::device());
        g.set_precision(precision);
        test::Tensors data(g);
        Tensor a = data.floats({64, 64}, std::vector<float>(64 * 64), "a"),
               b = data.floats({64, 64}, std::vector<float>(64 * 64), "b");
        matmul(g, Product::nt, a, b, {}, g.tensor({64, 64}, DType::f32, "y"), "matmul", options);
        return g.nodes().back().pipeline->kernel.shader;
    };
    EXPECT_THROW(shader(Precision::f32, {.variant = MatmulVariant::matrix_units}), Error);
    EXPECT_THROW(shader(Precision::f32, {.variant = MatmulVariant::tiled, .tile = 9}), Error);
    EXPECT_NE(shader(Precision::f32, {}).substr(0, 7), "coopmat");
    for (Precision precision : {Precision::f16, Precision::bf16}) {
        bool offered = has_matrix_units(test::device().capabilities(), precision);
        std::string expected = precision == Precision::f16 ? "coopmat_f16" : "coopmat_bf16";
        EXPECT_EQ(shader(precision, {}) == expected, offered);
        if (!offered) {
            EXPECT_THROW(shader(precision, {.variant = MatmulVariant::matrix_units}), Error);
        }
    }
}

TEST(Linear, GradientsMatchFiniteDifferences) {
    test::check_gradients({{"x", {13, 20}, test::normal(260, 5)}, {"w", {9, 20}, test::normal(180, 6), true}},
                          [](Graph& g, test::Tensors&, const std::vector<Tensor>& in) { return linear(g, in[0], in[1], "y"); });
}

TEST(Linear, GradientsOnMatrixUnitsMatchFiniteDifferences) {
    bool any = false;
    for (Precision precision : {Precision::f16, Precision::bf16}) {
        if (!has_matrix_units(test::device().capabilities(), precision)) continue;
        any = true;
        // linear() is linear in each input: a step as large as the values themselves keeps the rounding of the operands (up to
        // 2^-11 or 2^-8 of a value) small against the difference.
        test::check_gradients(
            {{"x", {33, 40}, test::normal(33 * 40, 5)}, {"w", {24, 40}, test::normal(24 * 40, 6), true}},
            [=](Graph& g, test::Tensors&, const std::vector<Tensor>& in) {
                g.set_precision(precision);
                Tensor y = linear(g, in[0], in[1], "y");
                EXPECT_EQ(g.nodes().back().pipeline->kernel.shader.substr(0, 7), "coopmat");
                return y;
            },
            precision == Precision::f16 ? 5e-3 : 2e-2, 1.0);
    }
    if (!any) GTEST_SKIP() << "the device has no matrix units for f16 or bf16";
}

TEST(Linear, InnerSizesThatDifferAreAnError) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor x = data.floats({2, 3}, std::vector<float>(6), "x"), w = data.floats({4, 5}, std::vector<float>(20), "w");
    EXPECT_THROW(linear(g, x, w, "y"), Error);
}

}  // namespace
}  // namespace vkqat

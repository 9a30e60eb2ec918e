#include "runtime/ops/onebit_linear.h"

#include <cmath>

#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

std::vector<float> signs(size_t count, uint32_t seed) {
    std::vector<float> values = test::normal(count, seed);
    for (float& v : values) v = v < 0 ? -1.f : 1.f;
    return values;
}

// One part's outputs, [tokens, out].
std::vector<double> reference(const std::vector<float>& x, const std::vector<float>& sign, const std::vector<float>& g,
                              const std::vector<float>& h) {
    const size_t in = g.size(), out = h.size(), tokens = x.size() / in;
    std::vector<double> y(tokens * out);
    for (size_t t = 0; t < tokens; t++) {
        double mean = 0, variance = 0;
        for (size_t o = 0; o < out; o++) {
            double sum = 0;
            for (size_t i = 0; i < in; i++) sum += double(x[t * in + i]) * g[i] * sign[o * in + i];
            y[t * out + o] = sum * h[o];
            mean += sum * h[o] / double(out);
        }
        for (size_t o = 0; o < out; o++) variance += (y[t * out + o] - mean) * (y[t * out + o] - mean) / double(out);
        for (size_t o = 0; o < out; o++) y[t * out + o] = (y[t * out + o] - mean) / std::sqrt(variance + double(onebit_norm_eps));
    }
    return y;
}

TEST(OnebitLinear, PartsStandSideBySide) {
    for (int64_t tokens : {1, 5, 70})
        for (int64_t in : {8, 35, 160}) {
            SCOPED_TRACE(testing::Message() << tokens << " x " << in);
            Graph g(test::device());
            test::Tensors data(g);
            Tensor x = data.floats({tokens, in}, test::normal(size_t(tokens * in), 1), "x");
            const std::vector<int64_t> rows = {24, 9, 300};
            std::vector<OnebitPart> parts;
            for (int64_t out : rows)
                parts.push_back({data.floats({out, in}, signs(size_t(out * in), uint32_t(out)), "sign", DType::bf16),
                                 data.floats({in}, test::uniform(size_t(in), uint32_t(out + 1), 0.5, 2), "g"),
                                 data.floats({out}, test::uniform(size_t(out), uint32_t(out + 2), 0.5, 2), "h", DType::f16)});
            Tensor y = onebit_linear(g, x, parts, "layer");
            g.keep(y);
            Executable executable(g, "test");
            executable.run();
            std::vector<double> expected(size_t(tokens * 333));
            size_t first = 0;
            for (const OnebitPart& part : parts) {
                auto one =
                    reference(data.read(x), data.read(part.sign), data.read(part.input_factor), data.read(part.output_factor));
                const auto out = size_t(part.sign.rows());
                for (size_t k = 0; k < one.size(); k++) expected[k / out * 333 + first + k % out] = one[k];
                first += out;
            }
            EXPECT_LT(test::relative_error(test::read_floats(executable, y), expected), 1e-5);
        }
}

TEST(OnebitLinear, GradientsInTheMiddleOfAGraph) {
    for (size_t count : {size_t(1), size_t(2)}) {
        std::vector<test::GradientInput> inputs{{"x", {5, 24}, test::normal(120, 1)}};
        for (size_t i = 0; i < count; i++) {
            const int64_t out = i == 0 ? 19 : 32;
            inputs.push_back({"sign", {out, 24}, signs(size_t(out) * 24, 2), true});
            inputs.push_back({"input_factor", {24}, test::uniform(24, 3, 0.5, 2), true});
            inputs.push_back({"output_factor", {out}, test::uniform(size_t(out), 4, 0.5, 2), true});
        }
        test::check_gradients(inputs, [&](Graph& g, test::Tensors&, const std::vector<Tensor>& t) {
            std::vector<OnebitPart> parts;
            for (size_t i = 0; i < count; i++) parts.push_back({t[1 + 3 * i], t[2 + 3 * i], t[3 + 3 * i]});
            return onebit_linear(g, t[0], parts, "layer");
        });
    }
}

TEST(OnebitLinear, RefusesWhatDoesNotFit) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor x = data.floats({2, 3}, test::normal(6, 1), "x"), s = data.floats({4, 3}, signs(12, 1), "s");
    Tensor three = data.floats({3}, test::normal(3, 1), "three"), four = data.floats({4}, test::normal(4, 1), "four");
    EXPECT_THROW(onebit_linear(g, x, {}, "layer"), Error);
    EXPECT_THROW(onebit_linear(g, x, {{s, four, four}}, "layer"), Error);
    EXPECT_THROW(onebit_linear(g, x, {{s, three, three}}, "layer"), Error);
    EXPECT_THROW(onebit_linear(g, x, {{data.floats({4, 2}, signs(8, 1), "s"), three, four}}, "layer"), Error);
    EXPECT_THROW(onebit_linear(g, {}, {{s, three, four}}, "layer"), Error);
}

// Behind products of parts: each with its norm, then a residual or the gated activation. Slices of 1024 columns, and less.
TEST(OnebitLinear, OutputsOfFewTokens) {
    for (const std::vector<int64_t>& rows : {std::vector<int64_t>{40}, {1030, 9, 300}, {17, 17}, {2100, 2100}, {1024, 1}})
        for (int64_t tokens : {1, 3})
            for (bool swiglu : {false, true}) {
                if (swiglu && (rows.size() != 2 || rows[0] != rows[1])) continue;
                SCOPED_TRACE(testing::Message() << rows[0] << " rows, " << tokens << " tokens, swiglu " << swiglu);
                int64_t all = 0;
                for (int64_t r : rows) all += r;
                const int64_t columns = swiglu ? rows[0] : all;
                Graph g(test::device());
                test::Tensors data(g);
                Tensor u = data.floats({tokens, all}, test::normal(size_t(tokens * all), 1, 3), "u");
                Tensor h = data.floats({all}, test::uniform(size_t(all), 2, 0.5, 2), "h");
                // Small enough for the norm's eps to count: u comes from a product of x over its root mean square.
                Tensor x = data.floats({tokens, 50}, test::normal(size_t(tokens * 50), 4, 1e-3f), "x");
                Tensor residual = data.floats({tokens, columns}, test::normal(size_t(tokens * columns), 3), "residual");
                Tensor y =
                    onebit_output(g, u, h, rows, {.residual = residual, .swiglu = swiglu, .x = x, .input_eps = 1e-4f}, "layer");
                g.keep(y);
                Executable executable(g, "test");
                executable.run();
                const std::vector<float> values = data.read(u), factors = data.read(h), added = data.read(residual),
                                         inputs = data.read(x);
                std::vector<double> normed(size_t(tokens * all)), expected;
                for (int64_t t = 0; t < tokens; t++) {
                    int64_t first = 0;
                    double c = 1e-4;
                    for (int64_t i = 0; i < 50; i++)
                        c += double(inputs[size_t(t * 50 + i)]) * double(inputs[size_t(t * 50 + i)]) / 50;
                    c = std::sqrt(c);
                    for (int64_t r : rows) {
                        double mean = 0, variance = 0;
                        auto value = [&](int64_t i) {
                            return c * double(values[size_t(t * all + i)]) * double(factors[size_t(i)]);
                        };
                        for (int64_t i = first; i < first + r; i++) mean += value(i) / double(r);
                        for (int64_t i = first; i < first + r; i++) variance += (value(i) - mean) * (value(i) - mean) / double(r);
                        for (int64_t i = first; i < first + r; i++)
                            normed[size_t(t * all + i)] = (value(i) - mean) / std::sqrt(variance + double(onebit_norm_eps));
                        first += r;
                    }
                    for (int64_t i = 0; i < columns; i++) {
                        double v = normed[size_t(t * all + i)];
                        if (swiglu) v = v / (1 + std::exp(-v)) * normed[size_t(t * all + columns + i)];
                        expected.push_back(v + double(added[size_t(t * columns + i)]));
                    }
                }
                EXPECT_LE(test::relative_error(test::read_floats(executable, y), expected), 1e-5);
            }
    Graph g(test::device());
    test::Tensors data(g);
    Tensor u = data.floats({2, 30}, test::normal(60, 1), "u"), h = data.floats({30}, test::normal(30, 2), "h");
    EXPECT_THROW(onebit_output(g, u, h, {20}, {}, "layer"), Error);
    EXPECT_THROW(onebit_output(g, u, h, {10, 20}, {.swiglu = true}, "layer"), Error);
    EXPECT_THROW(onebit_output(g, u, h, {}, {}, "layer"), Error);
    EXPECT_THROW(onebit_output(g, u, h, {15, 15}, {.residual = u, .swiglu = true}, "layer"), Error);
}

}  // namespace
}  // namespace vkqat

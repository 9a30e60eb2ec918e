#include "tests/support/gradient_check.h"

#include <numeric>

#include "shaders/args/add.h"

namespace vkqat::test {
namespace {

Tensor add(Graph& g, Tensor a, Tensor b, const std::string& name) {
    Tensor y = g.tensor(a.shape(), DType::f32, name);
    g.dispatch(Kernel{"add", {64}}, {in(a), in(b), out(y)}, AddArgs{.count = uint32_t(a.elements())},
               linear_grid((a.elements() + 63) / 64), name);
    g.on_backward(y, {a, b}, [=](Graph& graph, Tensor dy) {
        graph.pass_gradient(a, dy);
        graph.pass_gradient(b, dy);
    });
    return y;
}

// p + 0, with the parameter's gradient copied to its buffer: an operation in front of the tested one.
Tensor upstream(Graph& g, Tensor p, Tensor zero) {
    Tensor y = g.tensor(p.shape(), DType::f32, "upstream." + p.name());
    Grid grid = linear_grid((p.elements() + 63) / 64);
    AddArgs args{.count = uint32_t(p.elements())};
    g.dispatch(Kernel{"add", {64}}, {in(p), in(zero), out(y)}, args, grid, "upstream");
    g.on_backward(y, {p}, [=](Graph& graph, Tensor dy) {
        GradientSlot slot = graph.gradient_slot(p);
        graph.dispatch(Kernel{"add", {64}}, {in(zero), in(dy), out(slot.out)}, args, grid, "upstream");
    });
    return y;
}

}  // namespace

void check_gradients(const std::vector<GradientInput>& inputs,
                     const std::function<Tensor(Graph&, Tensors&, const std::vector<Tensor>&)>& build, double tolerance,
                     double step) {
    Graph g(device(), Graph::Mode::training);
    Tensors data(g);
    std::vector<Tensor> parameters, gradients, middle, sides;
    for (const GradientInput& input : inputs) {
        Tensor p = data.floats(input.shape, input.values, input.name);
        parameters.push_back(p);
        gradients.push_back(data.parameter_gradient(p));
        Tensor zero = data.floats(input.shape, std::vector<float>(input.values.size(), 0), "zero");
        middle.push_back(input.parameter ? p : upstream(g, p, zero));
    }
    Tensor y = build(g, data, middle);
    // L = sum(seed * (2 y)) + sum over inputs of sum(seed * 2 x): the sum node uses y twice, the side nodes use x again.
    std::vector<std::pair<Tensor, std::vector<float>>> outputs;
    Tensor doubled = add(g, y, y, "doubled");
    g.keep(doubled);
    outputs.push_back({doubled, normal(size_t(y.elements()), 991)});
    for (size_t i = 0; i < inputs.size(); i++) {
        if (inputs[i].parameter) continue;
        Tensor side = add(g, middle[i], middle[i], "side");
        g.keep(side);
        outputs.push_back({side, normal(size_t(side.elements()), uint32_t(992 + i))});
    }
    for (auto it = outputs.rbegin(); it != outputs.rend(); ++it) {
        Tensor seed = data.floats(it->first.shape(), it->second, "seed");
        if (it + 1 == outputs.rend())
            g.backward(it->first, seed);
        else
            g.pass_gradient(it->first, seed);
    }
    Executable executable(g, "gradient check");
    executable.run();
    std::vector<std::vector<float>> analytic;
    for (Tensor gradient : gradients) analytic.push_back(data.read(gradient));

    auto loss = [&] {
        executable.run();
        double sum = 0;
        for (auto& [tensor, seed] : outputs) {
            auto values = read_floats(executable, tensor);
            for (size_t k = 0; k < values.size(); k++) sum += double(values[k]) * seed[k];
        }
        return sum;
    };
    for (size_t i = 0; i < inputs.size(); i++) {
        const auto& base = inputs[i].values;
        double rms = 0, norm = 0;
        for (float v : base) rms += double(v) * v;
        for (float v : analytic[i]) {
            ASSERT_TRUE(std::isfinite(v)) << "gradient of " << inputs[i].name << " has elements that are not finite or unwritten";
            norm += double(v) * v;
        }
        rms = std::sqrt(rms / double(base.size())) + 1e-6;
        norm = std::sqrt(norm);
        ASSERT_GT(norm, 0) << inputs[i].name;
        std::mt19937 random(uint32_t(77 + i));
        for (int round = 0; round < 8; round++) {
            // Half of the directions are random, half single elements (or few, in small tensors).
            std::vector<float> direction = normal(base.size(), uint32_t(1000 * i + size_t(round)));
            if (round % 2) {
                std::fill(direction.begin(), direction.end(), 0.f);
                direction[random() % direction.size()] = 1;
            }
            double length = std::sqrt(std::inner_product(direction.begin(), direction.end(), direction.begin(), 0.0));
            double h = step * rms * (round % 2 ? 1 : std::sqrt(double(base.size()))) / length;
            auto shifted = [&](double sign) {
                std::vector<float> values = base;
                for (size_t k = 0; k < values.size(); k++) values[k] += float(sign * h * direction[k]);
                data.write(parameters[i], values);
                return loss();
            };
            double numeric = (shifted(+1) - shifted(-1)) / (2 * h * length);
            double expected = std::inner_product(direction.begin(), direction.end(), analytic[i].begin(), 0.0) / length;
            EXPECT_NEAR(expected, numeric, tolerance * norm)
                << "dL/d" << inputs[i].name << ", direction " << round << " (norm of the gradient " << norm << ")";
        }
        data.write(parameters[i], base);
    }
}

}  // namespace vkqat::test

#include "trainer/onebit.h"

#include <algorithm>
#include <cmath>

#include "runtime/graph/executable.h"
#include "runtime/ops/cast.h"
#include "runtime/ops/launch.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/rms_norm.h"
#include "runtime/support/error.h"
#include "shaders/args/onebit.h"

namespace vkqat {
namespace {

// Scales to length 1; returns the length it had.
double normalize(std::vector<double>& v) {
    double squares = 0;
    for (double x : v) squares += x * x;
    const double length = std::sqrt(squares);
    for (double& x : v) x /= length;
    return length;
}

}  // namespace

OnebitStart onebit_start(std::span<const float> weight, int64_t out, int64_t in, const std::string& layer) {
    const auto rows = size_t(out), cols = size_t(in);
    if (out < 1 || in < 1 || weight.size() != rows * cols) fail("{}: {} weights are no [{}, {}]", layer, weight.size(), out, in);
    double squares = 0;
    for (float w : weight) {
        if (!std::isfinite(w)) fail("{}: a weight is {}", layer, w);
        squares += double(w) * w;
    }
    if (squares == 0) fail("{}: all weights are 0", layer);
    std::vector<double> u(rows), v(cols, 1);
    normalize(v);
    // Matrices without negative entries have a large gap between the first two singular values: a few rounds are enough.
    double value = 0;
    for (int round = 0; round < 200; round++) {
        for (size_t r = 0; r < rows; r++) {
            double sum = 0;
            for (size_t c = 0; c < cols; c++) sum += std::abs(double(weight[r * cols + c])) * v[c];
            u[r] = sum;
        }
        normalize(u);
        std::fill(v.begin(), v.end(), 0);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++) v[c] += std::abs(double(weight[r * cols + c])) * u[r];
        const double before = value;
        value = normalize(v);
        if (std::abs(value - before) <= 1e-14 * value) break;
    }
    OnebitStart start;
    const double root = std::sqrt(value);
    for (double x : v) start.input_factor.push_back(float(x * root));
    for (double x : u) start.output_factor.push_back(float(x * root));
    for (float w : weight) start.weight.push_back(w > 0 ? 0.01f : w < 0 ? -0.01f : 0.f);
    // |A - R sign(A)|^2 = |A|^2 - value^2 where no entry is 0, for R is a projection of |A|.
    start.error = std::sqrt(std::max(0.0, squares - value * value) / squares);
    return start;
}

OnebitStart onebit_start(Device& device, const std::function<Tensor(Graph&)>& weight, const Buffer& magnitudes,
                         const std::string& layer) {
    constexpr int rounds_at_once = 8, most_rounds = 200;
    Graph first(device);
    Tensor w = weight(first);
    const int64_t out_rows = w.rows(), in_cols = w.cols();
    expect(w, {out_rows, in_cols}, DType::f32, layer);
    auto room = [&](int64_t elements, const char* what) { return device.allocate(uint64_t(elements) * 4, what); };
    const Buffer squares = room(out_rows, "squares"), u = room(out_rows, "left vector"), v = room(in_cols, "right vector");
    const Buffer product = room(out_rows, "product"), ones = room(std::max(out_rows, in_cols), "ones");
    auto dispatch = [&](Graph& g, Tensor from, Tensor to, Tensor sums) {
        g.dispatch(row_kernel(g.capabilities(), "onebit_start", in_cols), {to ? in(from) : inout(from), out(to), out(sums)},
                   OnebitStartArgs{.rows = count32(out_rows, layer), .dim = count32(in_cols, layer)}, linear_grid(out_rows),
                   "onebit.start");
    };
    auto magnitude = [&](Graph& g) { return g.external(magnitudes, 0, {out_rows, in_cols}, DType::f32, "magnitudes"); };
    dispatch(first, w, magnitude(first), first.external(squares, 0, {out_rows}, DType::f32, "squares"));
    Executable(first, "start of signs").run();
    auto read = [&](const Buffer& from, int64_t count) {
        std::vector<float> values(static_cast<size_t>(count));
        device.download(from, 0, std::as_writable_bytes(std::span(values)));
        return values;
    };
    double sum = 0;
    for (float s : read(squares, out_rows)) sum += double(s);
    if (!std::isfinite(sum)) fail("{}: a weight is not finite, or their squares are too large", layer);
    if (sum == 0) fail("{}: all weights are 0", layer);

    // Vectors are kept at a root mean square of 1, so lengths are known.
    const std::vector<float> start(size_t(std::max(out_rows, in_cols)), 1.f);
    device.upload(ones, 0, std::as_bytes(std::span(start)));
    device.upload(v, 0, std::as_bytes(std::span(start)).first(size_t(in_cols) * 4));
    Graph g(device);
    auto row = [&](const Buffer& buffer, int64_t count, const char* name) {
        return g.external(buffer, 0, {1, count}, DType::f32, name);
    };
    auto unit = [&](Tensor x, const Buffer& to) {
        const int64_t count = x.cols();
        copy(g, rms_norm(g, x, g.external(ones, 0, {count}, DType::f32, "ones"), 0.f), row(to, count, "vector"));
    };
    Tensor a = magnitude(g);
    for (int i = 0; i < rounds_at_once; i++) {
        Tensor left = g.tensor({1, out_rows}, DType::f32, "left"), right = g.tensor({1, in_cols}, DType::f32, "right");
        matmul(g, Product::nt, row(v, in_cols, "right vector"), a, {}, left, "onebit.left");
        unit(left, u);
        matmul(g, Product::nn, row(u, out_rows, "left vector"), a, {}, right, "onebit.right");
        unit(right, v);
    }
    matmul(g, Product::nt, row(v, in_cols, "right vector"), a, {}, row(product, out_rows, "product"), "onebit.left");
    Executable rounds(g, "rank-1 approximation");
    auto length = [](const std::vector<float>& values) {
        double squared = 0;
        for (float x : values) squared += double(x) * x;
        return std::sqrt(squared);
    };
    OnebitStart result;
    double value = 0;
    for (int done = 0; done < most_rounds; done += rounds_at_once) {
        rounds.run();
        result.output_factor = read(product, out_rows);
        result.input_factor = read(v, in_cols);
        const double before = value;
        value = length(result.output_factor) / length(result.input_factor);
        if (std::abs(value - before) <= 1e-6 * value) break;
    }
    const auto scale = [&](std::vector<float>& values) {
        const double factor = std::sqrt(value) / length(values);
        for (float& x : values) x = float(double(x) * factor);
    };
    scale(result.output_factor);
    scale(result.input_factor);
    result.error = std::sqrt(std::max(0.0, sum - value * value) / sum);
    Graph last(device);
    dispatch(last, weight(last), {}, {});
    Executable(last, "signs").run();
    return result;
}

void start_onebit(Device& device, ParameterStore& parameters, const std::function<void(const std::string&)>& line) {
    using Array = ParameterStore::Array;
    auto is_start = [&](const Parameter& p) {
        return p.name == p.layer_name() + ".weight" && parameters.has(p.layer_name() + ".input_factor");
    };
    uint64_t largest = 0;
    for (const Parameter& p : parameters.parameters())
        if (is_start(p)) largest = std::max(largest, uint64_t(p.shape.elements()) * 4);
    if (!largest) return;
    const Buffer magnitudes = device.allocate(largest, "magnitudes of a weight");
    for (size_t i = 0; i < parameters.parameters().size(); i++) {
        const Parameter& p = parameters.parameters()[i];
        if (!is_start(p)) continue;
        const std::string layer = p.layer_name();
        const OnebitStart start = onebit_start(
            device, [&](Graph& g) { return parameters.master(g, i); }, magnitudes, layer);
        parameters.write(parameters.index(layer + ".input_factor"), Array::weight, start.input_factor);
        parameters.write(parameters.index(layer + ".output_factor"), Array::weight, start.output_factor);
        if (line) line(fmt::format("{}: signs between two vectors, relative error {:.3f}", layer, start.error));
    }
}

std::vector<uint8_t> pack_signs(std::span<const float> weight, int64_t in) {
    if (in < 8 || in % 8 || weight.size() % size_t(in))
        fail("a row of {} signs is no whole number of bytes, or rows are not whole", in);
    std::vector<uint8_t> packed(weight.size() / 8, 0);
    for (size_t i = 0; i < weight.size(); i++) packed[i / 8] |= uint8_t(uint8_t(weight[i] < 0) << (i % 8));
    return packed;
}

std::vector<float> unpack_signs(std::span<const uint8_t> packed, int64_t in) {
    if (in < 8 || in % 8 || packed.size() % size_t(in / 8))
        fail("a row of {} signs is no whole number of bytes, or rows are not whole", in);
    std::vector<float> signs(packed.size() * 8);
    for (size_t i = 0; i < signs.size(); i++) signs[i] = packed[i / 8] >> (i % 8) & 1 ? -1.f : 1.f;
    return signs;
}

}  // namespace vkqat

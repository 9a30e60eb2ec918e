#include "trainer/onebit.h"

#include <algorithm>
#include <cmath>

#include "runtime/support/error.h"

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

void start_onebit(ParameterStore& parameters, const std::function<void(const std::string&)>& line) {
    using Array = ParameterStore::Array;
    for (size_t i = 0; i < parameters.parameters().size(); i++) {
        const Parameter& p = parameters.parameters()[i];
        const std::string layer = p.layer_name();
        if (p.name != layer + ".weight" || !parameters.has(layer + ".input_factor")) continue;
        const OnebitStart start = onebit_start(parameters.read(i, Array::weight), p.shape[0], p.shape[1], layer);
        parameters.write(i, Array::weight, start.weight);
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

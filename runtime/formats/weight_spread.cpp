#include "runtime/formats/weight_spread.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/support/error.h"

namespace vkqat {

std::vector<LinearShape> linear_shapes(const LlamaConfig& c) {
    return {{"self_attn.q_proj", c.q_dim(), c.hidden_size},        {"self_attn.k_proj", c.kv_dim(), c.hidden_size},
            {"self_attn.v_proj", c.kv_dim(), c.hidden_size},       {"self_attn.o_proj", c.hidden_size, c.q_dim()},
            {"mlp.gate_proj", c.intermediate_size, c.hidden_size}, {"mlp.up_proj", c.intermediate_size, c.hidden_size},
            {"mlp.down_proj", c.hidden_size, c.intermediate_size}};
}

LinearShape linear_shape(const LlamaConfig& config, std::string_view layer) {
    for (const LinearShape& shape : linear_shapes(config))
        if (layer.ends_with(shape.name)) return shape;
    fail("{}: is no linear layer; expected such as model.layers.{}.mlp.gate_proj", layer, config.layers / 2);
}

WeightSpread spread(const PackedWeight& w) {
    WeightSpread s{.bits = w.bits, .block = w.block_size};
    std::vector<double> counts(w.centroids.size());
    for (uint8_t index : unpack_indices(w.packed, w.in, w.bits)) counts[index]++;
    for (size_t i = 0; i < counts.size(); i++) {
        if (s.centroids.empty() || w.centroids[i] != s.centroids.back()) {  // ternary has one twice
            s.centroids.push_back(w.centroids[i]);
            s.shares.push_back(0);
        }
        s.shares.back() += counts[i] / double(w.out * w.in);
    }
    // Cells end half-way between centroids; the outer ones are as wide on both sides.
    const std::vector<double>& c = s.centroids;
    const size_t n = c.size();
    s.edges.push_back(c[0] - (n > 1 ? (c[1] - c[0]) / 2 : 1));
    for (size_t i = 1; i < n; i++) s.edges.push_back((c[i - 1] + c[i]) / 2);
    s.edges.push_back(c[n - 1] + (n > 1 ? (c[n - 1] - c[n - 2]) / 2 : 1));
    return s;
}

WeightSpread spread(const OnebitLinear& signs) {
    int64_t minus = 0;
    for (std::byte b : signs.weight->bytes) minus += std::popcount(uint8_t(b));
    const double share = double(minus) / double(signs.out * signs.in);
    return {.edges = {-2, 0, 2}, .shares = {share, 1 - share}, .centroids = {-1, 1}, .bits = 1};
}

WeightSpread spread(std::span<const float> weights, size_t bins) {
    double sum = 0;
    for (float w : weights) sum += double(w) * double(w);
    WeightSpread s{.root_mean_square = std::sqrt(sum / double(weights.size()))};
    const double reach = std::max(1e-30, 4 * s.root_mean_square);
    std::vector<double> counts(bins);
    for (float w : weights) {
        const double at = (double(w) + reach) / (2 * reach) * double(bins);
        if (at >= 0 && at < double(bins)) counts[size_t(at)]++;
    }
    for (double count : counts) s.shares.push_back(count / double(weights.size()));
    for (size_t i = 0; i <= bins; i++) s.edges.push_back(-reach + 2 * reach * double(i) / double(bins));
    return s;
}

WeightSpread weight_spread(const ModelFiles& files, const LlamaConfig& config, const std::string& layer, size_t bins) {
    const LinearShape shape = linear_shape(config, layer);
    if (auto packed = find_packed_linear(files, layer, shape.out, shape.in)) return spread(load(*packed));
    if (auto signs = find_onebit_linear(files, layer, shape.out, shape.in)) return spread(*signs);
    return spread(read_floats(files.get(layer + ".weight", std::vector<int64_t>{shape.out, shape.in})), bins);
}

}  // namespace vkqat

#include "app/core/weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/llama_config.h"
#include "runtime/formats/onebit_packing.h"
#include "runtime/formats/packing.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

struct Linear {
    const char *block, *name;
    int64_t out, in;
};

std::array<Linear, 7> linear_layers(const LlamaConfig& c) {
    return {{{"self_attn", "q_proj", c.q_dim(), c.hidden_size},
             {"self_attn", "k_proj", c.kv_dim(), c.hidden_size},
             {"self_attn", "v_proj", c.kv_dim(), c.hidden_size},
             {"self_attn", "o_proj", c.hidden_size, c.q_dim()},
             {"mlp", "gate_proj", c.intermediate_size, c.hidden_size},
             {"mlp", "up_proj", c.intermediate_size, c.hidden_size},
             {"mlp", "down_proj", c.hidden_size, c.intermediate_size}}};
}

WeightPart dense_part(const ModelFiles& files, int64_t layer, const char* name, const std::string& tensor) {
    const TensorView& view = files.get(tensor);
    WeightPart part{.layer = layer, .name = name, .weights = 1, .bytes = uint64_t(byte_size(view))};
    for (int64_t size : view.shape) part.weights *= size;
    part.bits = 8.0 * double(part.bytes) / double(std::max<int64_t>(1, part.weights));
    return part;
}

WeightHistogram of_centroids(const PackedWeight& w) {
    WeightHistogram h{.bits = w.bits, .block = w.block_size};
    std::vector<double> counts(w.centroids.size());
    for (uint8_t index : unpack_indices(w.packed, w.in, w.bits)) counts[index]++;
    for (size_t i = 0; i < counts.size(); i++) {
        if (h.centroids.empty() || w.centroids[i] != h.centroids.back()) {  // ternary has one twice
            h.centroids.push_back(w.centroids[i]);
            h.shares.push_back(0);
        }
        h.shares.back() += counts[i] / double(w.out * w.in);
    }
    // Cells end half-way between centroids; the outer ones are as wide on both sides.
    const std::vector<double>& c = h.centroids;
    const size_t n = c.size();
    for (size_t i = 0; i <= n; i++) {
        const double inner = i == 0 || i == n ? 0 : (c[i - 1] + c[i]) / 2;
        h.edges.push_back(i == 0   ? c[0] - (n > 1 ? (c[1] - c[0]) / 2 : 1)
                          : i == n ? c[n - 1] + (n > 1 ? (c[n - 1] - c[n - 2]) / 2 : 1)
                                   : inner);
    }
    return h;
}

}  // namespace

std::vector<WeightPart> weight_parts(const std::filesystem::path& model) {
    const LlamaConfig c = read_llama_config(model);
    const ModelFiles files = ModelFiles::open(model);
    std::vector<WeightPart> parts{dense_part(files, -1, "embedding", "model.embed_tokens.weight")};
    for (int64_t layer = 0; layer < c.layers; layer++) {
        const std::string prefix = fmt::format("model.layers.{}.", layer);
        for (const Linear& l : linear_layers(c)) {
            const std::string tensor = fmt::format("{}{}.{}", prefix, l.block, l.name);
            WeightPart part{.layer = layer, .name = l.name, .weights = l.out * l.in};
            if (auto signs = find_onebit_linear(files, tensor, l.out, l.in)) {
                part.bytes = signs->bytes(), part.bits = 1;
            } else if (auto packed = find_packed_linear(files, tensor, l.out, l.in)) {
                part.bytes = packed->bytes(), part.bits = packed->bits;
            } else {
                part = dense_part(files, layer, l.name, tensor + ".weight");
            }
            part.tensor = tensor;
            parts.push_back(std::move(part));
        }
        WeightPart norms{.layer = layer, .name = "norms"};
        for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
            const WeightPart one = dense_part(files, layer, "norms", prefix + norm + ".weight");
            norms.weights += one.weights, norms.bytes += one.bytes;
        }
        parts.push_back(norms);
    }
    parts.push_back(dense_part(files, -1, "last norm", "model.norm.weight"));
    parts.back().bits = 0;
    if (!c.tie_word_embeddings) parts.push_back(dense_part(files, -1, "head", "lm_head.weight"));
    return parts;
}

WeightHistogram weight_histogram(const std::filesystem::path& model, const std::string& tensor) {
    const LlamaConfig c = read_llama_config(model);
    const ModelFiles files = ModelFiles::open(model);
    const auto linear = linear_layers(c);
    const auto shape = std::find_if(linear.begin(), linear.end(), [&](const Linear& l) { return tensor.ends_with(l.name); });
    if (shape == linear.end()) fail("{}: is no linear layer", tensor);
    if (auto packed = find_packed_linear(files, tensor, shape->out, shape->in)) return of_centroids(load(*packed));
    if (auto signs = find_onebit_linear(files, tensor, shape->out, shape->in)) {
        int64_t minus = 0;
        for (std::byte b : signs->weight->bytes) minus += std::popcount(uint8_t(b));
        const double share = double(minus) / double(shape->out * shape->in);
        return {.edges = {-2, 0, 2}, .shares = {share, 1 - share}, .centroids = {-1, 1}, .bits = 1};
    }
    const std::vector<float> weights = read_floats(files.get(tensor + ".weight", std::vector<int64_t>{shape->out, shape->in}));
    double sum = 0;
    for (float w : weights) sum += double(w) * double(w);
    const double reach = std::max(1e-30, 4 * std::sqrt(sum / double(weights.size())));
    constexpr size_t bins = 64;
    WeightHistogram h;
    h.shares.resize(bins);
    for (float w : weights) {
        const double at = (double(w) + reach) / (2 * reach) * double(bins);
        if (at >= 0 && at < double(bins)) h.shares[size_t(at)] += 1 / double(weights.size());
    }
    for (size_t i = 0; i <= bins; i++) h.edges.push_back(-reach + 2 * reach * double(i) / double(bins));
    return h;
}

}  // namespace vkqat

#include "app/core/weights.h"

#include <algorithm>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

WeightPart dense_part(const ModelFiles& files, int64_t layer, const std::string& name, const std::string& tensor) {
    const TensorView& view = files.get(tensor);
    WeightPart part{.layer = layer, .name = name, .weights = 1, .bytes = uint64_t(byte_size(view))};
    for (int64_t size : view.shape) part.weights *= size;
    part.bits = 8.0 * double(part.bytes) / double(std::max<int64_t>(1, part.weights));
    return part;
}

}  // namespace

std::vector<WeightPart> weight_parts(const std::filesystem::path& model) {
    const LlamaConfig c = read_llama_config(model);
    const ModelFiles files = ModelFiles::open(model);
    std::vector<WeightPart> parts{dense_part(files, -1, "embedding", "model.embed_tokens.weight")};
    for (int64_t layer = 0; layer < c.layers; layer++) {
        const std::string prefix = fmt::format("model.layers.{}.", layer);
        for (const LinearShape& l : linear_shapes(c)) {
            const std::string tensor = fmt::format("{}{}", prefix, l.name), name(l.name.substr(l.name.find('.') + 1));
            WeightPart part{.layer = layer, .name = name, .weights = l.out * l.in};
            if (auto signs = find_onebit_linear(files, tensor, l.out, l.in)) {
                part.bytes = signs->bytes(), part.bits = 1;
            } else if (auto packed = find_packed_linear(files, tensor, l.out, l.in)) {
                part.bytes = packed->bytes(), part.bits = packed->bits;
            } else {
                part = dense_part(files, layer, name, tensor + ".weight");
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

WeightSpread weight_histogram(const std::filesystem::path& model, const std::string& tensor) {
    return weight_spread(ModelFiles::open(model), read_llama_config(model), tensor, 64);
}

}  // namespace vkqat

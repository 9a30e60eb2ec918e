#include "trainer/flavors.h"

#include <algorithm>
#include <string>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

constexpr Flavor known_flavors[] = {
    {"debugmodel", 256, 6, 16, 16, 1.0, 256}, {"500M", 1536, 12, 12, 6, 1.3, 1024}, {"1B", 2048, 16, 16, 8, 1.3, 1024},
    {"4B", 3072, 24, 24, 8, 1.3, 1024},       {"12B", 4096, 48, 32, 8, 1.3, 1024},  {"31B", 6144, 60, 48, 8, 1.3, 1024},
};

std::string flavor_names() {
    std::string names;
    for (const Flavor& flavor : known_flavors) names += (names.empty() ? "" : ", ") + std::string(flavor.name);
    return names;
}

const Flavor& find_flavor(std::string_view name) {
    auto found =
        std::find_if(std::begin(known_flavors), std::end(known_flavors), [&](const Flavor& f) { return f.name == name; });
    if (found == std::end(known_flavors)) fail("model.flavor: there is no flavor '{}'; known are {}", name, flavor_names());
    return *found;
}

// A dimension that [model] may give: 0 where it does not.
struct Dimension {
    std::string_view key;
    int64_t given;
    int64_t& value;
};

std::vector<Dimension> dimensions(const ModelConfig& given, LlamaConfig& config) {
    return {{"hidden_size", given.hidden_size, config.hidden_size},
            {"intermediate_size", given.intermediate_size, config.intermediate_size},
            {"num_hidden_layers", given.num_hidden_layers, config.layers},
            {"num_attention_heads", given.num_attention_heads, config.heads},
            {"num_key_value_heads", given.num_key_value_heads, config.kv_heads},
            {"head_dim", given.head_dim, config.head_dim},
            {"vocab_size", given.vocab_size, config.vocab_size},
            {"max_position_embeddings", given.max_position_embeddings, config.max_position_embeddings}};
}

// What flavor and explicit values say. Without `complete`, values that neither gives stay 0.
LlamaConfig requested(const TrainConfig& config, bool complete) {
    const ModelConfig& m = config.model;
    LlamaConfig result;
    result.max_position_embeddings = 0;
    result.rope_theta = m.rope_theta;
    result.rms_norm_eps = m.rms_norm_eps;
    result.tie_word_embeddings = m.tie_word_embeddings;
    if (!m.flavor.empty()) {
        const Flavor& flavor = find_flavor(m.flavor);
        result.hidden_size = flavor.hidden_size;
        result.intermediate_size = flavor.intermediate_size();
        result.layers = flavor.layers;
        result.heads = flavor.heads;
        result.kv_heads = flavor.kv_heads;
    }
    for (const Dimension& d : dimensions(m, result)) {
        if (d.given) d.value = d.given;
    }
    if (!complete) return result;

    for (const Dimension& d : dimensions(m, result)) {
        bool needed = d.key == "hidden_size" || d.key == "intermediate_size" || d.key == "num_hidden_layers" ||
                      d.key == "num_attention_heads";
        if (needed && d.value == 0) {
            fail(
                "model.{} is missing: name a flavor ({}), or give hidden_size, intermediate_size, num_hidden_layers and "
                "num_attention_heads",
                d.key, flavor_names());
        }
    }
    if (result.kv_heads == 0) result.kv_heads = result.heads;
    if (result.head_dim == 0) {
        if (result.hidden_size % result.heads != 0) {
            fail("model.hidden_size = {} is no multiple of num_attention_heads = {}: give head_dim, or change one of them",
                 result.hidden_size, result.heads);
        }
        result.head_dim = result.hidden_size / result.heads;
    }
    if (result.rope_theta == 0) result.rope_theta = 500000;
    if (result.rms_norm_eps == 0) result.rms_norm_eps = 1e-5;
    if (result.max_position_embeddings == 0) result.max_position_embeddings = std::max<int64_t>(8192, config.training.seq_len);
    if (m.rope_scaling == "llama3" || (m.rope_scaling.empty() && !m.flavor.empty())) result.rope_scaling = RopeScaling{};
    return result;
}

// The directory's architecture, if it is what [model] asks for.
LlamaConfig loaded(const TrainConfig& config) {
    const std::filesystem::path folder = config.checkpoint.initial_load_path;
    LlamaConfig result = read_llama_config(folder), wanted = requested(config, false);
    auto found = dimensions(config.model, result), asked = dimensions(config.model, wanted);
    for (size_t i = 0; i < found.size(); ++i) {
        if (asked[i].value != 0 && asked[i].value != found[i].value) {
            fail("model.{}: {} is asked for, but the model in {} has {}; leave it out to take the model's", asked[i].key,
                 asked[i].value, folder.string(), found[i].value);
        }
    }
    auto differs = [&](std::string_view key) {
        fail("model.{} is not that of the model in {}; leave it out to take the model's", key, folder.string());
    };
    const ModelConfig& m = config.model;
    if (m.rope_theta != 0 && m.rope_theta != result.rope_theta) differs("rope_theta");
    if (m.rms_norm_eps != 0 && m.rms_norm_eps != result.rms_norm_eps) differs("rms_norm_eps");
    if (m.tie_word_embeddings && !result.tie_word_embeddings) differs("tie_word_embeddings");
    if (!m.rope_scaling.empty() && (m.rope_scaling == "llama3") != result.rope_scaling.has_value()) differs("rope_scaling");
    return result;
}

}  // namespace

int64_t Flavor::intermediate_size() const {
    auto width = int64_t(ffn_dim_multiplier * double(2 * 4 * hidden_size / 3));
    return (width + ffn_multiple_of - 1) / ffn_multiple_of * ffn_multiple_of;
}

std::span<const Flavor> flavors() { return known_flavors; }

LlamaConfig model_config(const TrainConfig& config, int64_t tokenizer_vocab_size) {
    LlamaConfig result = config.checkpoint.initial_load_path.empty() ? requested(config, true) : loaded(config);
    if (result.vocab_size == 0) result.vocab_size = tokenizer_vocab_size;
    if (result.vocab_size < tokenizer_vocab_size) {
        fail("model.vocab_size = {}, but the tokenizer in {} has {} ids: choose at least as many, or another tokenizer",
             result.vocab_size, config.tokenizer_path().string(), tokenizer_vocab_size);
    }
    validate(result, "[model]");
    return result;
}

}  // namespace vkqat

#include "runtime/formats/gguf_model.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>

#include "runtime/formats/json_text.h"
#include "runtime/formats/rope_layout.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

// A tensor's name behind "blk.N." or alone, and Hugging Face's behind "model.layers.N." or alone.
struct Name {
    std::string_view gguf, hugging_face;
};
constexpr Name model_names[] = {{"token_embd.weight", "model.embed_tokens.weight"},
                                {"output_norm.weight", "model.norm.weight"},
                                {"output.weight", "lm_head.weight"}};
constexpr Name layer_names[] = {
    {"attn_norm.weight", "input_layernorm.weight"}, {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},   {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},   {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"}};
constexpr std::string_view rope_factors = "rope_freqs.weight";

// The file's name in front of every message.
class Keys {
public:
    explicit Keys(const GgufFile& file) : file_(file), where_(file.path().string()) {}

    int64_t count(std::string_view key) const {
        std::optional<uint64_t> value = file_.count(key);
        if (!value) fail("{}: the key '{}' is missing", where_, key);
        return int64_t(*value);
    }
    int64_t count(std::string_view key, int64_t otherwise) const { return file_.has(key) ? count(key) : otherwise; }

    // A number, or one for each layer, which must then be the same.
    int64_t same_in_all_layers(std::string_view key, std::optional<int64_t> otherwise = {}) const {
        if (otherwise && !file_.has(key)) return *otherwise;
        auto found = file_.values().find(key);
        if (found == file_.values().end() || found->second.type != GgufType::array) return count(key);
        std::vector<int64_t> values = *file_.integers(key);
        if (values.empty()) fail("{}: key '{}': an empty array", where_, key);
        for (int64_t value : values) {
            if (value != values[0]) {
                fail("{}: key '{}': {} in one layer and {} in another; models whose layers differ are not supported", where_, key,
                     values[0], value);
            }
        }
        return values[0];
    }

    // An f32 as the decimal number that it was written for: 1e-5, not 9.99999975e-06.
    double number(std::string_view key, std::optional<double> otherwise = {}) const {
        std::optional<double> value = file_.number(key);
        if (!value && !otherwise) fail("{}: the key '{}' is missing", where_, key);
        if (!value) return *otherwise;
        if (file_.values().find(key)->second.type != GgufType::f32) return *value;
        std::string text = fmt::format("{}", float(*value));
        double decimal = *value;
        std::from_chars(text.data(), text.data() + text.size(), decimal);
        return decimal;
    }

    const std::string& where() const { return where_; }

private:
    const GgufFile& file_;
    std::string where_;
};

void check_supported(const GgufFile& file, const Keys& keys) {
    std::string_view architecture = file.string("general.architecture").value_or("");
    if (architecture != "llama") {
        fail("{}: general.architecture is '{}'; expected llama, the one architecture that is supported", keys.where(),
             printable(architecture, 60));
    }
    if (keys.count("split.count", 1) > 1) {
        fail("{}: is one of {} parts of a model; join them with llama.cpp's llama-gguf-split --merge", keys.where(),
             keys.count("split.count"));
    }
    if (keys.count("llama.expert_count", 0) > 0) fail("{}: a mixture of experts, which is not supported", keys.where());
    std::string_view scaling = file.string("llama.rope.scaling.type").value_or("linear");
    double factor = keys.number("llama.rope.scaling.factor", keys.number("llama.rope.scale_linear", 1));
    if (scaling != "none" && (scaling != "linear" || (factor != 1 && factor != 0))) {
        fail("{}: key 'llama.rope.scaling.type': '{}' with factor {}; only Llama 3's scaling is supported", keys.where(),
             printable(scaling, 60), factor);
    }
}

// Llama 3's factor by which the frequency of a pair is divided (the inverse of what runtime/ops/rope does).
double llama3_factor(const RopeScaling& s, double frequency) {
    double original = double(s.original_max_position_embeddings), wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength < original / s.high_freq_factor) return 1;
    if (wavelength > original / s.low_freq_factor) return s.factor;
    double blend = (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
    return 1 / ((1 - blend) / s.factor + blend);
}

// The factors of the pairs -> the scaling that they come from. Multiplying original, low and high with one number changes
// nothing, so low is 1.
std::optional<RopeScaling> rope_scaling(const std::vector<float>& factors, const LlamaConfig& config, const Keys& keys) {
    const size_t pairs = size_t(config.head_dim / 2);
    if (factors.size() != pairs) {
        fail("{}: tensor '{}': expected a factor for each of {} pairs, found {}", keys.where(), rope_factors, pairs,
             factors.size());
    }
    std::vector<double> frequencies(pairs);
    double largest = 1;
    for (size_t i = 0; i < pairs; ++i) {
        frequencies[i] = std::pow(config.rope_theta, -2.0 * double(i) / double(config.head_dim));
        if (!(factors[i] >= 1 && factors[i] <= 1e6)) {
            fail("{}: tensor '{}': factor {} is {}, expected 1 to 1e6", keys.where(), rope_factors, i, factors[i]);
        }
        largest = std::max(largest, double(factors[i]));
    }
    if (largest == 1) return std::nullopt;
    auto fits = [&](const RopeScaling& s) {
        for (size_t i = 0; i < pairs; ++i)
            if (std::abs(llama3_factor(s, frequencies[i]) / double(factors[i]) - 1) > 1e-4) return false;
        return true;
    };
    RopeScaling scaling{.factor = largest};
    for (int64_t original : {int64_t(8192), keys.count("llama.rope.scaling.original_context_length", 8192),
                             std::clamp<int64_t>(config.max_position_embeddings, 1, 1 << 30)}) {
        scaling.original_max_position_embeddings = original;
        if (original >= 1 && fits(scaling)) return scaling;
    }
    // Between the two limits the blend is linear in the frequency: two pairs there give both.
    std::vector<std::pair<double, double>> points;
    for (size_t i = 0; i < pairs; ++i) {
        double factor = double(factors[i]);
        if (factor > 1 && factor < largest) {
            points.emplace_back(frequencies[i] / (2 * std::numbers::pi), (1 / factor - 1 / largest) / (1 - 1 / largest));
        }
    }
    if (points.size() >= 2) {
        auto [x0, y0] = points.front();
        auto [x1, y1] = points.back();
        double slope = (y1 - y0) / (x1 - x0), low = slope * x0 - y0;  // original / (high - low), low / (high - low)
        double original = std::round(slope / low);
        if (low > 0 && original >= 1 && original <= 1 << 30) {
            scaling.original_max_position_embeddings = int64_t(original);
            scaling.high_freq_factor = std::round(1e4 * (1 + 1 / low)) / 1e4;
            if (scaling.high_freq_factor > 1 && fits(scaling)) return scaling;
        }
    }
    fail("{}: tensor '{}': its factors are not those of Llama 3's RoPE scaling, the one that is supported", keys.where(),
         rope_factors);
}

std::vector<float> floats_of(const GgufTensor& tensor, const Keys& keys) {
    if (!tensor.type->dtype)
        fail("{}: tensor '{}': expected f32, f16 or bf16, found {}", keys.where(), tensor.name, tensor.type->name);
    TensorView view{{tensor.name, *tensor.type->dtype, tensor.shape}, tensor.bytes, nullptr};
    return read_floats(view);
}

// Splits "blk.12.attn_q.weight"; nothing for another form.
std::optional<std::pair<int64_t, std::string_view>> layer_of(std::string_view name) {
    if (!name.starts_with("blk.")) return std::nullopt;
    int64_t layer = -1;
    auto [end, error] = std::from_chars(name.data() + 4, name.data() + name.size(), layer);
    if (error != std::errc() || layer < 0 || end == name.data() + name.size() || *end != '.') return std::nullopt;
    return std::pair(layer, name.substr(size_t(end + 1 - name.data())));
}

// Hugging Face's name; nothing for what a Llama has no use for.
std::optional<std::string> hugging_face_name(std::string_view name, int64_t layers, std::string_view where) {
    for (const Name& n : model_names)
        if (n.gguf == name) return std::string(n.hugging_face);
    if (name == rope_factors) return std::nullopt;
    if (auto layer = layer_of(name); layer && layer->first < layers) {
        for (const Name& n : layer_names)
            if (n.gguf == layer->second) return fmt::format("model.layers.{}.{}", layer->first, n.hugging_face);
        if (layer->second == "attn_rot_embd" || layer->second == rope_factors) return std::nullopt;  // of old files
    }
    fail("{}: tensor '{}': a Llama of {} layers without biases has none of that name", where, name, layers);
}

}  // namespace

LlamaConfig gguf_llama_config(const GgufFile& file) {
    Keys keys(file);
    check_supported(file, keys);
    LlamaConfig config;
    config.hidden_size = keys.count("llama.embedding_length");
    config.intermediate_size = keys.same_in_all_layers("llama.feed_forward_length");
    config.layers = keys.count("llama.block_count");
    config.heads = keys.same_in_all_layers("llama.attention.head_count");
    config.kv_heads = keys.same_in_all_layers("llama.attention.head_count_kv", config.heads);
    if (!file.has("llama.attention.key_length") && (config.heads < 1 || config.hidden_size % config.heads != 0)) {
        fail("{}: llama.embedding_length {} is no multiple of llama.attention.head_count {}", keys.where(), config.hidden_size,
             config.heads);
    }
    config.head_dim = keys.count("llama.attention.key_length", config.heads < 1 ? 0 : config.hidden_size / config.heads);
    for (const char* key : {"llama.attention.value_length", "llama.rope.dimension_count"}) {
        if (keys.count(key, config.head_dim) != config.head_dim) {
            fail("{}: key '{}': expected the size of a head, {}, found {}", keys.where(), key, config.head_dim, keys.count(key));
        }
    }
    config.max_position_embeddings = keys.count("llama.context_length");
    config.rms_norm_eps = keys.number("llama.attention.layer_norm_rms_epsilon");
    config.rope_theta = keys.number("llama.rope.freq_base", 10000);
    if (double scale = keys.number("llama.attention.scale", 0);
        scale != 0 && std::abs(scale * std::sqrt(double(config.head_dim)) - 1) > 1e-5) {
        fail("{}: key 'llama.attention.scale': expected 1 / sqrt({}), found {}", keys.where(), config.head_dim, scale);
    }

    const GgufTensor* embedding = file.find("token_embd.weight");
    if (!embedding || embedding->shape.size() != 2) fail("{}: has no matrix 'token_embd.weight'", keys.where());
    config.vocab_size = embedding->shape[0];
    config.tie_word_embeddings = !file.find("output.weight");
    const GgufTensor* weight = file.find("blk.0.attn_q.weight");
    if (!weight) weight = embedding;
    const std::string_view type = weight->type->name;
    config.torch_dtype = type == "f32" ? "float32" : type == "bf16" ? "bfloat16" : "float16";
    auto token = [&](const char* key) { return int32_t(std::min<int64_t>(keys.count(key), INT32_MAX)); };
    if (file.has("tokenizer.ggml.bos_token_id")) config.bos_token_id = token("tokenizer.ggml.bos_token_id");
    for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
        if (file.has(key) && std::ranges::count(config.eos_token_ids, token(key)) == 0)
            config.eos_token_ids.push_back(token(key));
    }
    validate(config, keys.where());  // before sizes are trusted
    if (const GgufTensor* factors = file.find(rope_factors)) {
        config.rope_scaling = rope_scaling(floats_of(*factors, keys), config, keys);
        validate(config, keys.where());
    }
    return config;
}

std::vector<TensorView> gguf_llama_tensors(const std::shared_ptr<const GgufFile>& file, const LlamaConfig& config) {
    std::string where = file->path().string();
    std::vector<TensorView> tensors;
    for (const GgufTensor& tensor : file->tensors()) {
        std::optional<std::string> name = hugging_face_name(tensor.name, config.layers, where);
        if (!name) continue;
        const GgufBlockType& type = *tensor.type;
        if (!type.dtype && !type.decode) {
            fail("{}: tensor '{}': its type {} is not supported; expected {}", where, tensor.name, type.name,
                 readable_block_types());
        }
        const int64_t heads = name->ends_with("q_proj.weight")   ? config.heads
                              : name->ends_with("k_proj.weight") ? config.kv_heads
                                                                 : 0;
        if (heads && (tensor.shape.size() != 2 || tensor.shape[0] != heads * config.head_dim)) {
            fail("{}: tensor '{}': expected {} rows ({} heads of {}), found shape {}", where, tensor.name,
                 heads * config.head_dim, heads, config.head_dim, shape_text(tensor.shape));
        }
        TensorView view{{*name, type.dtype.value_or(DType::f16), tensor.shape}, {}, nullptr};
        if (type.dtype && !heads) {
            view.bytes = tensor.bytes;
        } else {
            auto convert = [file, &tensor, heads](std::span<std::byte> out) {
                return in_context(fmt::format("{}: tensor '{}'", file->path().string(), tensor.name), [&] {
                    const int64_t rows = tensor.shape[0];
                    if (tensor.type->dtype) return interleaved_to_split_halves(tensor.bytes, rows, heads, out);
                    if (!heads) return decode_blocks(*tensor.type, tensor.bytes, out);
                    decode_blocks(*tensor.type, interleaved_to_split_halves(tensor.bytes, rows, heads), out);
                });
            };
            view.stored = std::make_shared<const StoredForm>(StoredForm{type.name, tensor.bytes.size(), std::move(convert)});
        }
        tensors.push_back(std::move(view));
    }
    return tensors;
}

}  // namespace vkqat

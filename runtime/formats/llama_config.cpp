#include "runtime/formats/llama_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/formats/gguf_model.h"
#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace {

using nlohmann::json;
constexpr size_t max_config_bytes = size_t(4) << 20;

// Reads the keys of one JSON object; its errors name the file and the key.
class Fields {
public:
    Fields(const json& object, std::string_view where) : object_(object), where_(where) {}

    // Null where the key is missing or null.
    const json* find(const char* key) const {
        auto found = object_.find(key);
        return found == object_.end() || found->is_null() ? nullptr : &*found;
    }

    const json& require(const char* key) const {
        const json* value = find(key);
        if (!value) fail("{}: the key '{}' is missing", where_, key);
        return *value;
    }

    int64_t integer(const char* key) const { return to_integer(key, require(key)); }
    int64_t integer(const char* key, int64_t otherwise) const { return find(key) ? integer(key) : otherwise; }
    double number(const char* key) const { return to_number(key, require(key)); }
    double number(const char* key, double otherwise) const { return find(key) ? number(key) : otherwise; }

    bool boolean(const char* key, bool otherwise) const {
        const json* value = find(key);
        if (!value) return otherwise;
        if (!value->is_boolean()) wrong_type(key, "true or false", *value);
        return value->get<bool>();
    }

    std::string text(const char* key, const std::string& otherwise) const {
        const json* value = find(key);
        if (!value) return otherwise;
        if (!value->is_string()) wrong_type(key, "a string", *value);
        return value->get<std::string>();
    }

    // One token id, several, or none.
    std::vector<int32_t> token_ids(const char* key) const {
        std::vector<int32_t> ids;
        const json* value = find(key);
        if (!value) return ids;
        if (!value->is_array()) return {to_token_id(key, *value)};
        if (value->size() > 1024) fail("{}: '{}' holds {} ids (at most 1024)", where_, key, value->size());
        for (const json& id : *value) ids.push_back(to_token_id(key, id));
        return ids;
    }

    std::optional<int32_t> token_id(const char* key) const {
        const json* value = find(key);
        return value ? std::optional(to_token_id(key, *value)) : std::nullopt;
    }

    [[noreturn]] void wrong_type(const char* key, const char* expected, const json& found) const {
        fail("{}: '{}': expected {}, found {}", where_, key, expected, printable(found.dump(-1, ' ', true), 60));
    }

private:
    int64_t to_integer(const char* key, const json& value) const {
        if (!value.is_number_integer()) wrong_type(key, "a whole number", value);
        if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(INT64_MAX))
            wrong_type(key, "a number below 2^63", value);
        return value.get<int64_t>();
    }

    double to_number(const char* key, const json& value) const {
        if (!value.is_number()) wrong_type(key, "a number", value);
        return value.get<double>();
    }

    int32_t to_token_id(const char* key, const json& value) const {
        int64_t id = to_integer(key, value);
        if (id < 0 || id > INT32_MAX) wrong_type(key, "a token id (0 to 2^31 - 1)", value);
        return int32_t(id);
    }

    const json& object_;
    std::string_view where_;
};

json parse_object(std::string_view text, std::string_view where) {
    json value = parse_json(text, where);
    if (!value.is_object()) fail("{}: expected a JSON object, found {}", where, value.type_name());
    return value;
}

// Newer writers keep theta and scaling together in `rope_parameters`; older ones have `rope_theta` and `rope_scaling`.
void parse_rope(const Fields& fields, std::string_view where, LlamaConfig& config) {
    config.rope_theta = fields.number("rope_theta", config.rope_theta);
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
        const json* object = fields.find(key);
        if (!object) continue;
        if (!object->is_object()) fields.wrong_type(key, "an object or null", *object);
        std::string inner = fmt::format("{}: {}", where, key);
        Fields rope(*object, inner);
        config.rope_theta = rope.number("rope_theta", config.rope_theta);
        std::string type = rope.text("rope_type", rope.text("type", "default"));
        if (type == "default") continue;
        if (type != "llama3") fail("{}: rope_type '{}' is not supported; expected llama3 or default", inner, printable(type));
        config.rope_scaling = RopeScaling{.factor = rope.number("factor"),
                                          .low_freq_factor = rope.number("low_freq_factor"),
                                          .high_freq_factor = rope.number("high_freq_factor"),
                                          .original_max_position_embeddings = rope.integer("original_max_position_embeddings")};
    }
}

void check_architecture(const Fields& fields, std::string_view where) {
    if (const json* architectures = fields.find("architectures")) {
        bool llama = architectures->is_array() && architectures->size() == 1 && (*architectures)[0] == "LlamaForCausalLM";
        if (!llama)
            fields.wrong_type("architectures", "[\"LlamaForCausalLM\"], the one architecture that is supported", *architectures);
    }
    if (std::string type = fields.text("model_type", "llama"); type != "llama") {
        fail("{}: model_type '{}' is not supported; expected llama", where, printable(type));
    }
    if (!fields.find("architectures") && !fields.find("model_type")) {
        fail("{}: has neither 'architectures' nor 'model_type'; is this the config.json of a Llama model?", where);
    }
    for (const char* key : {"attention_bias", "mlp_bias"}) {
        if (fields.boolean(key, false)) fail("{}: '{}' is true, but models with biases are not supported", where, key);
    }
    if (std::string act = fields.text("hidden_act", "silu"); act != "silu") {
        fail("{}: hidden_act '{}' is not supported; expected silu", where, printable(act));
    }
    if (const json* other = fields.find("quantization_config")) {
        fail(
            "{}: 'quantization_config' stands in this file ({}), which names a packing that is not supported; expected a model "
            "in full precision, or one with a quantization_config.json",
            where, printable(other->dump(-1, ' ', true), 100));
    }
}

void put_ids(nlohmann::ordered_json& object, const char* key, const std::vector<int32_t>& ids) {
    if (ids.empty()) return;
    if (ids.size() == 1) {
        object[key] = ids[0];
    } else {
        object[key] = ids;
    }
}

std::string dump(const nlohmann::ordered_json& object) {
    return object.dump(2, ' ', true, json::error_handler_t::replace) + "\n";
}

std::string read_config_text(const std::filesystem::path& path) { return read_text_file(path, max_config_bytes); }

}  // namespace

int64_t LlamaConfig::parameters() const {
    int64_t attention = 2 * hidden_size * q_dim() + 2 * hidden_size * kv_dim();
    int64_t layer = attention + 3 * hidden_size * intermediate_size + 2 * hidden_size;
    return vocab_size * hidden_size * (tie_word_embeddings ? 1 : 2) + layers * layer + hidden_size;
}

void validate(const LlamaConfig& config, std::string_view where) {
    // The bounds keep every product of two sizes, and the number of parameters, far below 2^63.
    struct Range {
        const char* key;
        int64_t value, most;
    };
    for (auto [key, value, most] : {Range{"hidden_size", config.hidden_size, 1 << 20},
                                    {"intermediate_size", config.intermediate_size, 1 << 22},
                                    {"num_hidden_layers", config.layers, 4096},
                                    {"num_attention_heads", config.heads, 4096},
                                    {"num_key_value_heads", config.kv_heads, 4096},
                                    {"head_dim", config.head_dim, 4096},
                                    {"vocab_size", config.vocab_size, 1 << 24},
                                    {"max_position_embeddings", config.max_position_embeddings, 1 << 30}}) {
        if (value < 1 || value > most) fail("{}: '{}' is {}, expected 1 to {}", where, key, value, most);
    }
    if (config.heads % config.kv_heads != 0) {
        fail("{}: num_attention_heads {} is no multiple of num_key_value_heads {}", where, config.heads, config.kv_heads);
    }
    if (config.head_dim % 2 != 0) fail("{}: head_dim {} is odd, but RoPE turns pairs", where, config.head_dim);
    if (!(config.rms_norm_eps >= 0 && config.rms_norm_eps <= 1)) {
        fail("{}: 'rms_norm_eps' is {}, expected 0 to 1", where, config.rms_norm_eps);
    }
    if (!(config.rope_theta >= 1 && config.rope_theta <= 1e12)) {
        fail("{}: 'rope_theta' is {}, expected 1 to 1e12", where, config.rope_theta);
    }
    if (config.rope_scaling) {
        const RopeScaling& s = *config.rope_scaling;
        if (!(s.factor >= 1 && s.factor <= 1e6)) fail("{}: rope_scaling: 'factor' is {}, expected 1 to 1e6", where, s.factor);
        if (!(s.low_freq_factor > 0 && s.low_freq_factor < s.high_freq_factor && s.high_freq_factor <= 1e6)) {
            fail("{}: rope_scaling: low_freq_factor {} and high_freq_factor {}: expected 0 < low < high <= 1e6", where,
                 s.low_freq_factor, s.high_freq_factor);
        }
        if (s.original_max_position_embeddings < 1 || s.original_max_position_embeddings > 1 << 30) {
            fail("{}: rope_scaling: 'original_max_position_embeddings' is {}, expected 1 to {}", where,
                 s.original_max_position_embeddings, 1 << 30);
        }
    }
    auto check_id = [&](const char* key, int32_t id) {
        if (id < 0 || id >= config.vocab_size) {
            fail("{}: '{}' is {}, outside the vocabulary of {} tokens", where, key, id, config.vocab_size);
        }
    };
    if (config.bos_token_id) check_id("bos_token_id", *config.bos_token_id);
    for (int32_t id : config.eos_token_ids) check_id("eos_token_id", id);
    if (config.torch_dtype != "float32" && config.torch_dtype != "float16" && config.torch_dtype != "bfloat16") {
        fail("{}: torch_dtype '{}' is not supported; expected float32, float16 or bfloat16", where,
             printable(config.torch_dtype));
    }
}

LlamaConfig parse_llama_config(std::string_view text, std::string_view where) {
    json object = parse_object(text, where);
    Fields fields(object, where);
    check_architecture(fields, where);
    LlamaConfig config;
    config.hidden_size = fields.integer("hidden_size");
    config.intermediate_size = fields.integer("intermediate_size");
    config.layers = fields.integer("num_hidden_layers");
    config.heads = fields.integer("num_attention_heads");
    config.kv_heads = fields.integer("num_key_value_heads", config.heads);
    if (!fields.find("head_dim") && (config.heads < 1 || config.hidden_size % config.heads != 0)) {
        fail("{}: hidden_size {} is no multiple of num_attention_heads {}, and 'head_dim' is missing", where, config.hidden_size,
             config.heads);
    }
    config.head_dim = fields.find("head_dim") ? fields.integer("head_dim") : config.hidden_size / config.heads;
    config.vocab_size = fields.integer("vocab_size");
    config.max_position_embeddings = fields.integer("max_position_embeddings", config.max_position_embeddings);
    config.rms_norm_eps = fields.number("rms_norm_eps", config.rms_norm_eps);
    parse_rope(fields, where, config);
    config.tie_word_embeddings = fields.boolean("tie_word_embeddings", false);
    config.bos_token_id = fields.token_id("bos_token_id");
    config.eos_token_ids = fields.token_ids("eos_token_id");
    config.torch_dtype = fields.text("torch_dtype", fields.text("dtype", "float32"));
    validate(config, where);
    return config;
}

LlamaConfig read_llama_config(const std::filesystem::path& model_directory) {
    if (is_gguf(model_directory)) return gguf_llama_config(GgufFile(model_directory));
    std::filesystem::path path = model_directory / "config.json";
    if (!has_file(path)) fail("{}: has no config.json; expected the directory of a Llama model", model_directory.string());
    return parse_llama_config(read_config_text(path), path.string());
}

std::string to_json(const LlamaConfig& config) {
    validate(config, "configuration to write");
    nlohmann::ordered_json object = {{"architectures", nlohmann::ordered_json::array({"LlamaForCausalLM"})},
                                     {"attention_bias", false},
                                     {"attention_dropout", 0.0}};
    if (config.bos_token_id) object["bos_token_id"] = *config.bos_token_id;
    put_ids(object, "eos_token_id", config.eos_token_ids);
    object["head_dim"] = config.head_dim;
    object["hidden_act"] = "silu";
    object["hidden_size"] = config.hidden_size;
    object["initializer_range"] = 0.02;
    object["intermediate_size"] = config.intermediate_size;
    object["max_position_embeddings"] = config.max_position_embeddings;
    object["mlp_bias"] = false;
    object["model_type"] = "llama";
    object["num_attention_heads"] = config.heads;
    object["num_hidden_layers"] = config.layers;
    object["num_key_value_heads"] = config.kv_heads;
    object["pretraining_tp"] = 1;
    object["rms_norm_eps"] = config.rms_norm_eps;
    object["rope_scaling"] = nullptr;
    if (config.rope_scaling) {
        object["rope_scaling"] = {{"rope_type", "llama3"},
                                  {"factor", config.rope_scaling->factor},
                                  {"low_freq_factor", config.rope_scaling->low_freq_factor},
                                  {"high_freq_factor", config.rope_scaling->high_freq_factor},
                                  {"original_max_position_embeddings", config.rope_scaling->original_max_position_embeddings}};
    }
    object["rope_theta"] = config.rope_theta;
    object["tie_word_embeddings"] = config.tie_word_embeddings;
    object["torch_dtype"] = config.torch_dtype;
    object["use_cache"] = true;
    object["vocab_size"] = config.vocab_size;
    return dump(object);
}

GenerationConfig parse_generation_config(std::string_view text, std::string_view where) {
    json object = parse_object(text, where);
    Fields fields(object, where);
    GenerationConfig config;
    config.bos_token_id = fields.token_id("bos_token_id");
    config.eos_token_ids = fields.token_ids("eos_token_id");
    // Some old models have a pad id of -1, which means none.
    if (fields.integer("pad_token_id", -1) != -1) config.pad_token_id = fields.token_id("pad_token_id");
    if (fields.find("do_sample")) config.do_sample = fields.boolean("do_sample", false);
    if (fields.find("temperature")) config.temperature = fields.number("temperature");
    if (fields.find("top_k")) config.top_k = fields.integer("top_k");
    if (fields.find("top_p")) config.top_p = fields.number("top_p");
    if (fields.find("min_p")) config.min_p = fields.number("min_p");
    if (fields.find("repetition_penalty")) config.repetition_penalty = fields.number("repetition_penalty");
    if (config.temperature && !(*config.temperature >= 0 && *config.temperature <= 1000)) {
        fail("{}: 'temperature' is {}, expected 0 to 1000", where, *config.temperature);
    }
    if (config.top_k && *config.top_k < 0) fail("{}: 'top_k' is {}, expected 0 (off) or more", where, *config.top_k);
    if (config.top_p && !(*config.top_p >= 0 && *config.top_p <= 1)) {
        fail("{}: 'top_p' is {}, expected 0 to 1", where, *config.top_p);
    }
    if (config.min_p && !(*config.min_p >= 0 && *config.min_p <= 1))
        fail("{}: 'min_p' is {}, expected 0 to 1", where, *config.min_p);
    if (config.repetition_penalty && !(*config.repetition_penalty > 0 && *config.repetition_penalty <= 1000))
        fail("{}: 'repetition_penalty' is {}, expected more than 0, at most 1000", where, *config.repetition_penalty);
    return config;
}

GenerationConfig read_generation_config(const std::filesystem::path& model_directory) {
    std::filesystem::path path = model_directory / "generation_config.json";
    if (is_gguf(model_directory) || !has_file(path)) {
        LlamaConfig model = read_llama_config(model_directory);
        return {.bos_token_id = model.bos_token_id, .eos_token_ids = model.eos_token_ids};
    }
    return parse_generation_config(read_config_text(path), path.string());
}

std::string to_json(const GenerationConfig& config) {
    nlohmann::ordered_json object = nlohmann::ordered_json::object();
    if (config.bos_token_id) object["bos_token_id"] = *config.bos_token_id;
    put_ids(object, "eos_token_id", config.eos_token_ids);
    if (config.pad_token_id) object["pad_token_id"] = *config.pad_token_id;
    if (config.do_sample) object["do_sample"] = *config.do_sample;
    if (config.temperature) object["temperature"] = *config.temperature;
    if (config.top_k) object["top_k"] = *config.top_k;
    if (config.top_p) object["top_p"] = *config.top_p;
    if (config.min_p) object["min_p"] = *config.min_p;
    if (config.repetition_penalty) object["repetition_penalty"] = *config.repetition_penalty;
    return dump(object);
}

QuantizationConfig parse_quantization_config(std::string_view text, std::string_view where) {
    json object = parse_object(text, where);
    Fields fields(object, where);
    QuantizationConfig config;
    config.quant_method = fields.text("quant_method", "");
    int64_t bits = fields.integer("bits", 0), centroids = fields.integer("num_centroids", 0);
    config.block_size = fields.integer("block_size", 0);
    config.relative_scale = fields.text("relative_scale", "");
    config.packing = fields.text("packing", "");
    const int64_t activations = fields.integer("activation_bits", 0);
    if (activations != 0 && activations != 8) fail("{}: 'activation_bits' is {}, expected 8", where, activations);
    config.activation_bits = int(activations);
    config.bitlinear_norm = fields.text("bitlinear_norm", "");
    if (config.bitlinear_norm != "" && config.bitlinear_norm != "replace" && config.bitlinear_norm != "add")
        fail("{}: 'bitlinear_norm' is '{}', expected replace or add", where, printable(config.bitlinear_norm, 40));
    if (const json* table = fields.find("centroids"); table && table->is_array()) {
        bool flat = table->size() <= 65536 && std::ranges::all_of(*table, [](const json& value) { return value.is_number(); });
        if (flat) config.centroids = table->get<std::vector<float>>();
    }
    if (bits < 0 || bits > 16) fail("{}: 'bits' is {}, expected 1 to 16", where, bits);
    if (centroids < 0 || centroids > 65536) fail("{}: 'num_centroids' is {}, expected at most 65536", where, centroids);
    if (config.block_size < 0) fail("{}: 'block_size' is {}, expected more than 0", where, config.block_size);
    config.bits = int(bits);
    config.num_centroids = int(centroids);
    return config;
}

std::optional<QuantizationConfig> read_quantization_config(const std::filesystem::path& model_directory) {
    std::filesystem::path path = model_directory / "quantization_config.json";
    if (!has_file(path)) return std::nullopt;
    return parse_quantization_config(read_config_text(path), path.string());
}

std::string to_json(const QuantizationConfig& config) {
    nlohmann::ordered_json object = {{"quant_method", config.quant_method}, {"bits", config.bits}};
    object["block_size"] = config.block_size ? nlohmann::ordered_json(config.block_size) : nlohmann::ordered_json();
    object["relative_scale"] = config.relative_scale;
    if (config.num_centroids) object["num_centroids"] = config.num_centroids;
    if (!config.centroids.empty()) object["centroids"] = config.centroids;
    if (!config.packing.empty()) object["packing"] = config.packing;
    if (config.activation_bits) object["activation_bits"] = config.activation_bits;
    if (!config.bitlinear_norm.empty()) object["bitlinear_norm"] = config.bitlinear_norm;
    return dump(object);
}

}  // namespace vkqat

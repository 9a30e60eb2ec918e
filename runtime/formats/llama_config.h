// The settings files of a Hugging Face Llama directory: config.json, generation_config.json, quantization_config.json. Where a
// model is a GGUF file, its keys take their place.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

// RoPE frequencies as Llama 3 stretches them (rope_type llama3): wavelengths beyond original_max_position_embeddings /
// low_freq_factor are divided by factor, those below .../high_freq_factor kept, those between blended.
struct RopeScaling {
    double factor = 8;
    double low_freq_factor = 1;
    double high_freq_factor = 4;
    int64_t original_max_position_embeddings = 8192;
    bool operator==(const RopeScaling&) const = default;
};

// config.json of a LlamaForCausalLM: no biases, SiLU, RMS norms.
struct LlamaConfig {
    int64_t hidden_size = 0;
    int64_t intermediate_size = 0;
    int64_t layers = 0;    // num_hidden_layers
    int64_t heads = 0;     // num_attention_heads
    int64_t kv_heads = 0;  // num_key_value_heads, divides heads
    int64_t head_dim = 0;  // even; hidden_size / heads where the file does not say
    int64_t vocab_size = 0;
    int64_t max_position_embeddings = 2048;
    double rms_norm_eps = 1e-6;
    double rope_theta = 10000;
    bool tie_word_embeddings = false;
    std::optional<RopeScaling> rope_scaling;
    std::optional<int32_t> bos_token_id;
    std::vector<int32_t> eos_token_ids;
    std::string torch_dtype = "bfloat16";  // the type the weights are stored in: float32, float16 or bfloat16

    bool operator==(const LlamaConfig&) const = default;
    int64_t q_dim() const { return heads * head_dim; }
    int64_t kv_dim() const { return kv_heads * head_dim; }
    // Number of weights; a tied head counts once. No quantizer changes it.
    int64_t parameters() const;
};

// Error naming the key if a value is out of range or two do not fit together; `where` begins the message.
void validate(const LlamaConfig& config, std::string_view where);

// `where` (the file) begins every error message. The result is valid. Errors: malformed JSON, a missing or ill-typed key,
// another architecture, biases, another activation, another rope_type, values that validate() refuses.
LlamaConfig parse_llama_config(std::string_view json, std::string_view where);
LlamaConfig read_llama_config(const std::filesystem::path& model_directory);  // or GGUF file
std::string to_json(const LlamaConfig& config);

// generation_config.json: when to stop and how to sample unless the user says otherwise.
struct GenerationConfig {
    std::optional<int32_t> bos_token_id;
    std::vector<int32_t> eos_token_ids;  // any of them ends the text
    std::optional<int32_t> pad_token_id;
    std::optional<bool> do_sample;  // false: greedy, whatever the rest says
    std::optional<double> temperature;
    std::optional<int64_t> top_k;
    std::optional<double> top_p;
    std::optional<double> min_p;               // 0 to 1
    std::optional<double> repetition_penalty;  // above 0; 1: none
    bool operator==(const GenerationConfig&) const = default;
};

GenerationConfig parse_generation_config(std::string_view json, std::string_view where);
// Where the directory has no generation_config.json: the token ids of its config.json (or GGUF file).
GenerationConfig read_generation_config(const std::filesystem::path& model_directory);
std::string to_json(const GenerationConfig& config);

// quantization_config.json. Informative: bits and block size follow from the tensors (packing.h). Only `packing` is needed,
// where indices take 3 bits: see packing.h.
struct QuantizationConfig {
    std::string quant_method;      // nonlinear, sym_int, ternary or binary; the published exporter writes sym_int for tables too
    int bits = 0;                  // 0: not given
    int64_t block_size = 0;        // 0: not given, or the whole row
    std::string relative_scale;    // absmax, absmean, rms, none; empty: not given
    int num_centroids = 0;         // 0: not given
    std::vector<float> centroids;  // of one layer, for information; other shapes than a plain list are ignored
    std::string packing;           // empty: that of the published exporter
    int activation_bits = 0;     // 8: inputs of the layers are rounded to integers of each token (BitNet b1.58); 0: they are not
    std::string bitlinear_norm;  // with activation_bits: "replace": o_proj and down_proj have an RMS norm without weights in
                                 // front, "add": all layers have; empty: none
    bool operator==(const QuantizationConfig&) const = default;
};

QuantizationConfig parse_quantization_config(std::string_view json, std::string_view where);
// Nothing where the directory has no quantization_config.json: a full-precision model.
std::optional<QuantizationConfig> read_quantization_config(const std::filesystem::path& model_directory);
std::string to_json(const QuantizationConfig& config);

}  // namespace vkqat

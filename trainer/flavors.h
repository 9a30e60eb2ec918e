// The models of 1-Bit Wonder (arXiv 2602.15563) by name, and the architecture that a configuration asks for.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/formats/llama_config.h"
#include "trainer/config.h"

namespace vkqat {

struct Flavor {
    std::string_view name;
    int64_t hidden_size, layers, heads, kv_heads;
    double ffn_dim_multiplier;
    int64_t ffn_multiple_of;
    // multiple_of * ceil(int(ffn_dim_multiplier * int(2 * 4 * hidden_size / 3)) / multiple_of)
    int64_t intermediate_size() const;
};

std::span<const Flavor> flavors();

// The architecture, valid. What [model] gives explicitly goes before what the flavor says; without a flavor, hidden_size,
// intermediate_size, num_hidden_layers and num_attention_heads are needed. What neither says:
//   num_key_value_heads      num_attention_heads
//   head_dim                 hidden_size / num_attention_heads
//   vocab_size               tokenizer_vocab_size
//   rope_theta, rms_norm_eps 500000, 1e-5
//   rope_scaling             llama3 (factor 8, low 1, high 4, original length 8192) with a flavor, otherwise none
//   max_position_embeddings  8192, or seq_len if that is more
// With checkpoint.initial_load_path the architecture is that of the directory's config.json, and whatever [model] says has to
// agree with it.
// The token ids of the beginning and end of a text are not set, except by initial_load_path: they are the tokenizer's.
// Errors: an unknown flavor (the message lists them all), a missing dimension, dimensions that do not fit together, a
// vocabulary smaller than the tokenizer's.
LlamaConfig model_config(const TrainConfig& config, int64_t tokenizer_vocab_size);

}  // namespace vkqat

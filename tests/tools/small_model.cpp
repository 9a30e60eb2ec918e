#include "tests/tools/small_model.h"

#include <random>

#include "runtime/formats/checkpoint.h"
#include "runtime/text/bpe_trainer.h"

namespace vkqat::test {

void write_small_model(const std::filesystem::path& directory, int vocab_size, bool tokenizer) {
    LlamaConfig c{.hidden_size = 32, .intermediate_size = 48, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8};
    c.vocab_size = vocab_size;
    c.max_position_embeddings = 64;
    c.torch_dtype = "float32";
    std::vector<TensorInfo> tensors{{"model.embed_tokens.weight", DType::f32, {c.vocab_size, c.hidden_size}},
                                    {"model.norm.weight", DType::f32, {c.hidden_size}},
                                    {"lm_head.weight", DType::f32, {c.vocab_size, c.hidden_size}}};
    for (int i = 0; i < c.layers; i++) {
        std::string layer = "model.layers." + std::to_string(i) + ".";
        auto add = [&](const char* name, std::vector<int64_t> shape) { tensors.push_back({layer + name, DType::f32, shape}); };
        add("self_attn.q_proj.weight", {c.q_dim(), c.hidden_size});
        add("self_attn.k_proj.weight", {c.kv_dim(), c.hidden_size});
        add("self_attn.v_proj.weight", {c.kv_dim(), c.hidden_size});
        add("self_attn.o_proj.weight", {c.hidden_size, c.q_dim()});
        add("mlp.gate_proj.weight", {c.intermediate_size, c.hidden_size});
        add("mlp.up_proj.weight", {c.intermediate_size, c.hidden_size});
        add("mlp.down_proj.weight", {c.hidden_size, c.intermediate_size});
        add("input_layernorm.weight", {c.hidden_size});
        add("post_attention_layernorm.weight", {c.hidden_size});
    }
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.2f);
    write_model_directory(directory, {.config = c}, tensors, [&](const TensorInfo& tensor, const TensorSink& sink) {
        std::vector<float> values(size_t(element_count(tensor)));
        for (float& value : values) value = normal(random) + (tensor.shape.size() == 1 ? 1.0f : 0.0f);
        sink(std::as_bytes(std::span(values)));
    });
    if (!tokenizer) return;
    BpeTrainingOptions options{.vocab_size = size_t(vocab_size)};
    for (const char* token : {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}) options.special_tokens.push_back(token);
    std::string text;
    for (char a = 'a'; a <= 'z'; a++)
        for (char b = 'a'; b <= 'z'; b++) text += std::string(3, a) + b + " " + std::string(2, b) + a + " ";
    write_tokenizer(directory, train_bpe(std::vector<std::string>{text}, options), options);
}

}  // namespace vkqat::test

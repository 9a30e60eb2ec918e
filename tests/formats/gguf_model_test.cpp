// A Llama inside a GGUF: configuration, names, the order of q's and k's rows, quantized tensors on request.
#include "runtime/formats/gguf_model.h"

#include <cmath>
#include <numbers>
#include <random>

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/rope_layout.h"
#include "tests/formats/fixtures.h"
#include "tests/support/gguf_builder.h"

namespace vkqat {
namespace {

using test::GgufBuilder;
using test::le;

constexpr uint64_t hidden = 64, head_dim = 16, ffn = 96, vocabulary = 40;

std::string random_bytes(size_t size, int seed) {
    std::mt19937 random{unsigned(seed)};
    std::string bytes(size, '\0');
    for (char& c : bytes) c = char(random());
    return bytes;
}
// f32 whose value is the row's number everywhere
std::string numbered_rows(uint64_t rows, uint64_t columns) {
    std::string bytes;
    for (uint64_t r = 0; r < rows; ++r)
        for (uint64_t c = 0; c < columns; ++c) bytes += le(float(r));
    return bytes;
}
std::string q8_0(uint64_t elements, int seed) {
    std::string bytes;
    for (uint64_t b = 0; b < elements / 32; ++b)
        bytes += le(f32_to_f16(0.01f * float(b % 7 + 1))) + random_bytes(32, seed + int(b));
    return bytes;
}

void keys(GgufBuilder& b) {
    b.key("general.architecture", "llama");
    b.key("llama.context_length", uint32_t(128));
    b.key("llama.embedding_length", uint32_t(hidden));
    b.key("llama.block_count", uint32_t(1));
    b.key("llama.feed_forward_length", uint32_t(ffn));
    b.key("llama.attention.head_count", uint32_t(4));
    b.key("llama.attention.head_count_kv", uint32_t(2));
    b.key("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    b.key("llama.rope.dimension_count", uint32_t(head_dim));
    b.key("llama.rope.freq_base", 500000.f);
}
void tensors(GgufBuilder& b, bool head = false) {
    b.tensor("token_embd.weight", {hidden, vocabulary}, 8, q8_0(hidden * vocabulary, 1));
    b.tensor("output_norm.weight", {hidden}, 0, numbered_rows(1, hidden));
    if (head) b.tensor("output.weight", {hidden, vocabulary}, 1, random_bytes(hidden * vocabulary * 2, 2));
    b.tensor("blk.0.attn_norm.weight", {hidden}, 0, numbered_rows(1, hidden));
    b.tensor("blk.0.ffn_norm.weight", {hidden}, 0, numbered_rows(1, hidden));
    b.tensor("blk.0.attn_q.weight", {hidden, 4 * head_dim}, 0, numbered_rows(4 * head_dim, hidden));
    b.tensor("blk.0.attn_k.weight", {hidden, 2 * head_dim}, 8, q8_0(hidden * 2 * head_dim, 3));
    b.tensor("blk.0.attn_v.weight", {hidden, 2 * head_dim}, 30, random_bytes(hidden * 2 * head_dim * 2, 4));
    b.tensor("blk.0.attn_output.weight", {4 * head_dim, hidden}, 2, std::string(hidden * 4 * head_dim / 32 * 18, '\x22'));
    b.tensor("blk.0.ffn_gate.weight", {hidden, ffn}, 0, numbered_rows(ffn, hidden));
    b.tensor("blk.0.ffn_up.weight", {hidden, ffn}, 0, numbered_rows(ffn, hidden));
    b.tensor("blk.0.ffn_down.weight", {ffn, hidden}, 0, numbered_rows(hidden, ffn));
}
GgufBuilder sound(bool head = false) {
    GgufBuilder b;
    keys(b);
    tensors(b, head);
    return b;
}

class GgufModel : public testing::Test {
protected:
    std::filesystem::path write(const GgufBuilder& b) {
        write_file(scratch_ / "a.gguf", b.file());
        return scratch_ / "a.gguf";
    }
    std::string error(const GgufBuilder& b) {
        std::filesystem::path path = write(b);
        return error_of([&] { ModelFiles::open(path); });
    }
    ScratchFolder scratch_;
};

TEST_F(GgufModel, ConfigurationIsRead) {
    GgufBuilder b = sound();
    b.key("tokenizer.ggml.bos_token_id", uint32_t(1));
    b.key("tokenizer.ggml.eos_token_id", uint32_t(2));
    b.key("tokenizer.ggml.eot_token_id", uint32_t(7));
    LlamaConfig c = read_llama_config(write(b));
    EXPECT_EQ(c.hidden_size, 64);
    EXPECT_EQ(c.intermediate_size, 96);
    EXPECT_EQ(c.layers, 1);
    EXPECT_EQ(c.heads, 4);
    EXPECT_EQ(c.kv_heads, 2);
    EXPECT_EQ(c.head_dim, 16);
    EXPECT_EQ(c.vocab_size, 40);
    EXPECT_EQ(c.max_position_embeddings, 128);
    EXPECT_EQ(c.rms_norm_eps, 1e-5);
    EXPECT_EQ(c.rope_theta, 500000);
    EXPECT_TRUE(c.tie_word_embeddings);
    EXPECT_FALSE(c.rope_scaling);
    EXPECT_EQ(c.bos_token_id, 1);
    EXPECT_EQ(c.eos_token_ids, (std::vector<int32_t>{2, 7}));
    EXPECT_EQ(read_generation_config(scratch_ / "a.gguf").eos_token_ids, (std::vector<int32_t>{2, 7}));
    EXPECT_FALSE(read_llama_config(write(sound(true))).tie_word_embeddings);
}

TEST_F(GgufModel, TensorsHaveHuggingFacesNamesTypesAndShapes) {
    ModelFiles files = ModelFiles::open(write(sound(true)));
    auto expect = [&](const char* name, DType type, std::vector<int64_t> shape, const char* stored) {
        const TensorView& t = files.get(name, shape);
        EXPECT_EQ(t.dtype, type) << name;
        EXPECT_EQ(stored_type(t), stored) << name;
        RawBytes storage;
        EXPECT_EQ(contents(t, storage).size(), size_t(byte_size(t))) << name;
        EXPECT_EQ(storage == nullptr, t.bytes.size() > 0) << name;  // no copy without need
    };
    expect("model.embed_tokens.weight", DType::f16, {40, 64}, "q8_0");
    expect("model.norm.weight", DType::f32, {64}, "f32");
    expect("lm_head.weight", DType::f16, {40, 64}, "f16");
    expect("model.layers.0.input_layernorm.weight", DType::f32, {64}, "f32");
    expect("model.layers.0.post_attention_layernorm.weight", DType::f32, {64}, "f32");
    expect("model.layers.0.self_attn.q_proj.weight", DType::f32, {64, 64}, "f32");
    expect("model.layers.0.self_attn.k_proj.weight", DType::f16, {32, 64}, "q8_0");
    expect("model.layers.0.self_attn.v_proj.weight", DType::bf16, {32, 64}, "bf16");
    expect("model.layers.0.self_attn.o_proj.weight", DType::f16, {64, 64}, "q4_0");
    expect("model.layers.0.mlp.gate_proj.weight", DType::f32, {96, 64}, "f32");
    expect("model.layers.0.mlp.up_proj.weight", DType::f32, {96, 64}, "f32");
    expect("model.layers.0.mlp.down_proj.weight", DType::f32, {64, 96}, "f32");
    EXPECT_EQ(files.names().size(), 12u);
    EXPECT_EQ(files.file_count(), 1u);
    EXPECT_LT(files.stored_bytes(), files.total_bytes());
    EXPECT_EQ(files.get("lm_head.weight").stored, nullptr);
    EXPECT_NE(files.get("model.layers.0.self_attn.q_proj.weight").stored, nullptr);
}

TEST_F(GgufModel, RowsOfQAndKReturnToSplitHalves) {
    ModelFiles files = ModelFiles::open(write(sound()));
    std::vector<float> q = read_floats(files.get("model.layers.0.self_attn.q_proj.weight"));
    for (uint64_t row = 0; row < 64; ++row) {  // element i of a head stood at 2 i, element i + 8 at 2 i + 1
        uint64_t head = row / 16, i = row % 16;
        ASSERT_EQ(q[row * hidden], float(head * 16 + (i < 8 ? 2 * i : 2 * (i - 8) + 1))) << row;
    }
    // Round trip: what llama.cpp's converter does to Hugging Face's rows (those of q8_0 after decoding) gives the file's.
    RawBytes storage;
    std::span<const std::byte> k = contents(files.get("model.layers.0.self_attn.k_proj.weight"), storage);
    GgufFile raw(scratch_ / "a.gguf");
    const GgufTensor& stored = *raw.find("blk.0.attn_k.weight");
    std::vector<std::byte> in_the_files_order(k.size());
    decode_blocks(*stored.type, stored.bytes, in_the_files_order);
    EXPECT_EQ(split_halves_to_interleaved(k, 32, 2), in_the_files_order);
    std::vector<float> down = read_floats(files.get("model.layers.0.mlp.down_proj.weight"));
    for (uint64_t row = 0; row < hidden; ++row) ASSERT_EQ(down[row * ffn], float(row));  // no other is touched
}

// Llama 3's factors, as llama.cpp's converter writes them.
std::string rope_factors(double factor, double low, double high, double original) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) {
        double frequency = std::pow(500000.0, -2.0 * i / 16), wavelength = 2 * std::numbers::pi / frequency;
        double value = 1;
        if (wavelength > original / low) {
            value = factor;
        } else if (wavelength >= original / high) {
            double smooth = (original / wavelength - low) / (high - low);
            value = 1 / ((1 - smooth) / factor + smooth);
        }
        bytes += le(float(value));
    }
    return bytes;
}

TEST_F(GgufModel, RopeFactorsBecomeLlama3sScaling) {
    for (auto [factor, low, high, original] :
         {std::array{8.0, 1.0, 4.0, 8192.0}, {32, 1, 4, 8192}, {8, 1, 4, 128}, {4, 2, 40, 30000}}) {
        GgufBuilder b = sound();
        b.tensor("rope_freqs.weight", {8}, 0, rope_factors(factor, low, high, original));
        LlamaConfig c = read_llama_config(write(b));
        ASSERT_TRUE(c.rope_scaling);
        EXPECT_NEAR(c.rope_scaling->factor, factor, 1e-6);
        // Only the quotients have a meaning.
        double scale = low / c.rope_scaling->low_freq_factor;
        EXPECT_NEAR(c.rope_scaling->high_freq_factor * scale, high, 1e-3 * high);
        EXPECT_NEAR(double(c.rope_scaling->original_max_position_embeddings) * scale, original, 1e-3 * original);
    }
    GgufBuilder none = sound();
    none.tensor("rope_freqs.weight", {8}, 0, rope_factors(1, 1, 4, 8192));
    EXPECT_FALSE(read_llama_config(write(none)).rope_scaling);
    GgufBuilder other = sound();
    other.tensor("rope_freqs.weight", {8}, 0, le(2.f) + le(7.f) + le(1.f) + le(1.f) + le(3.f) + le(1.f) + le(1.f) + le(9.f));
    EXPECT_CONTAINS(error(other), "rope_freqs.weight");
    GgufBuilder fewer = sound();
    fewer.tensor("rope_freqs.weight", {4}, 0, le(1.f) + le(1.f) + le(1.f) + le(2.f));
    EXPECT_CONTAINS(error(fewer), "each of 8 pairs");
    GgufBuilder nan = sound();
    nan.tensor("rope_freqs.weight", {8}, 0, rope_factors(NAN, 1, 4, 8192));
    EXPECT_CONTAINS(error(nan), "rope_freqs.weight");
}

TEST_F(GgufModel, WhatIsNotSupportedIsAnErrorThatSaysSo) {
    auto with = [&](auto&& change) {
        GgufBuilder b = sound();
        change(b);
        return error(b);
    };
    EXPECT_CONTAINS(with([](GgufBuilder& b) { b.key("llama.expert_count", uint32_t(8)); }), "mixture of experts");
    EXPECT_CONTAINS(with([](GgufBuilder& b) { b.key("split.count", uint32_t(3)); }), "one of 3 parts");
    EXPECT_CONTAINS(with([](GgufBuilder& b) {
                        b.key("llama.rope.scaling.type", "yarn");
                        b.key("llama.rope.scaling.factor", 4.f);
                    }),
                    "'yarn' with factor 4");
    EXPECT_CONTAINS(with([](GgufBuilder& b) { b.key("llama.rope.scaling.factor", 4.f); }), "'linear' with factor 4");
    EXPECT_CONTAINS(with([](GgufBuilder& b) { b.key("llama.attention.scale", 1.f); }), "llama.attention.scale");
    EXPECT_CONTAINS(with([](GgufBuilder& b) { b.key("llama.attention.value_length", uint32_t(8)); }), "value_length");
    EXPECT_CONTAINS(with([](GgufBuilder& b) { b.key("tokenizer.ggml.eos_token_id", uint32_t(40)); }), "eos_token_id");
    EXPECT_CONTAINS(with([](GgufBuilder& b) { b.tensor("blk.0.attn_q.bias", {64}, 0, std::string(256, '\0')); }), "attn_q.bias");
    EXPECT_CONTAINS(with([](GgufBuilder& b) { b.tensor("blk.1.attn_norm.weight", {64}, 0, std::string(256, '\0')); }),
                    "blk.1.attn_norm.weight");
    EXPECT_CONTAINS(with([](GgufBuilder& b) {
                        b.tensor("output.weight", {256, 1}, 12, std::string(144, '\0'));
                    }),
                    "output.weight': its type q4_k is not supported");
    GgufBuilder other;
    other.key("general.architecture", "qwen2");
    EXPECT_CONTAINS(error(other), "'qwen2'; expected llama");
}

TEST_F(GgufModel, MissingKeysAndSizesThatDoNotFitAreErrors) {
    for (const char* key : {"llama.context_length", "llama.embedding_length", "llama.block_count", "llama.feed_forward_length",
                            "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"}) {
        GgufBuilder b = sound();
        std::string& all = b.keys;
        all.replace(all.find(test::gguf_string(key)) + 8, 1, "x");
        EXPECT_CONTAINS(error(b), key);
    }
    auto changed = [&](const char* key, uint32_t value) {
        GgufBuilder b = sound();
        b.keys.replace(b.keys.find(key) + std::strlen(key) + 4, 4, le(value));
        return b;
    };
    EXPECT_CONTAINS(error(changed("llama.attention.head_count", 0)), "head_count");
    EXPECT_CONTAINS(error(changed("llama.attention.head_count", 3)), "no multiple");
    EXPECT_CONTAINS(error(changed("llama.attention.head_count_kv", 3)), "num_key_value_heads");
    EXPECT_CONTAINS(error(changed("llama.attention.head_count", 8)), "dimension_count");
    EXPECT_CONTAINS(error(changed("llama.block_count", 0xffffffff)), "num_hidden_layers");
    EXPECT_CONTAINS(error(changed("llama.attention.head_count_kv", 1)), "attn_k.weight': expected 16 rows");
    std::filesystem::path path = write(changed("llama.embedding_length", 128));
    EXPECT_FALSE(error_of([&] { ModelFiles::open(path).get("model.norm.weight", std::vector<int64_t>{128}); }).empty());
    GgufBuilder empty;
    keys(empty);
    EXPECT_CONTAINS(error(empty), "token_embd.weight");
    GgufBuilder layers = sound();
    layers.array("other", std::vector<int32_t>{1, 2});
    layers.keys.replace(layers.keys.find("llama.feed_forward_length"), 25, "llama.feed_forward_lengtX");
    layers.array("llama.feed_forward_length", std::vector<int32_t>{96, 64});
    EXPECT_CONTAINS(error(layers), "96 in one layer and 64 in another");
}

TEST_F(GgufModel, DamagedBlocksAreFoundWhenTheyAreConverted) {
    GgufBuilder b = sound();
    b.data[1] = '\x7c';  // the first scale of the embeddings: infinity
    ModelFiles files = ModelFiles::open(write(b));
    std::string message = error_of([&] { read_floats(files.get("model.embed_tokens.weight")); });
    EXPECT_CONTAINS(message, "token_embd.weight");
    EXPECT_CONTAINS(message, "not finite");
}

TEST_F(GgufModel, TensorsOutliveTheMoveOfTheirModel) {
    std::optional<ModelFiles> first = ModelFiles::open(write(sound()));
    ModelFiles second = std::move(*first);
    first.reset();
    EXPECT_EQ(read_floats(second.get("model.layers.0.self_attn.q_proj.weight")).size(), 64u * 64);
    EXPECT_EQ(read_floats(second.get("model.norm.weight")).size(), 64u);
}

}  // namespace
}  // namespace vkqat

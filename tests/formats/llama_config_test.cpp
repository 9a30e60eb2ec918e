#include "runtime/formats/llama_config.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/formats/fixtures.h"

namespace vkqat {
namespace {

const std::string llama3 = R"({
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009],
  "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
  "model_type": "llama", "num_attention_heads": 24, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
                   "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256 })";

// `llama3` with one piece of its text replaced.
std::string with(std::string_view old_text, std::string_view new_text) {
    std::string text = llama3;
    size_t at = text.find(old_text);
    if (at == text.npos) fail("the text to replace is not there: {}", old_text);
    return text.replace(at, old_text.size(), new_text);
}

std::string error(const std::string& text) {
    std::string message = error_of([&] { parse_llama_config(text, "dir/config.json"); });
    EXPECT_EQ(message.rfind("dir/config.json: ", 0), 0u) << message;
    return message;
}

TEST(LlamaConfigs, ReadsLlama3) {
    LlamaConfig c = parse_llama_config(llama3, "config.json");
    EXPECT_EQ(c.hidden_size, 3072);
    EXPECT_EQ(c.layers, 28);
    EXPECT_EQ(c.heads, 24);
    EXPECT_EQ(c.kv_heads, 8);
    EXPECT_EQ(c.head_dim, 128);
    EXPECT_EQ(c.rms_norm_eps, 1e-5);
    EXPECT_EQ(c.rope_theta, 500000);
    ASSERT_TRUE(c.rope_scaling);
    EXPECT_EQ(c.rope_scaling->factor, 32);
    EXPECT_EQ(c.rope_scaling->original_max_position_embeddings, 8192);
    EXPECT_EQ(c.eos_token_ids, (std::vector<int32_t>{128001, 128008, 128009}));
    EXPECT_EQ(c.parameters(), 3212749824);  // the published number of Llama 3.2 3B
}

TEST(LlamaConfigs, FillsInWhatOldFilesLeaveOut) {
    LlamaConfig c = parse_llama_config(
        R"({"model_type":"llama","hidden_size":64,"intermediate_size":172,"num_hidden_layers":5,"num_attention_heads":8,"vocab_size":512,
            "rope_scaling":null,"eos_token_id":2})",
        "config.json");
    EXPECT_EQ(c.kv_heads, 8);
    EXPECT_EQ(c.head_dim, 8);
    EXPECT_EQ(c.rope_theta, 10000);
    EXPECT_EQ(c.rms_norm_eps, 1e-6);
    EXPECT_EQ(c.max_position_embeddings, 2048);
    EXPECT_FALSE(c.rope_scaling);
    EXPECT_FALSE(c.tie_word_embeddings);
    EXPECT_FALSE(c.bos_token_id);
    EXPECT_EQ(c.torch_dtype, "float32");
}

TEST(LlamaConfigs, ReadsTheNewerNamesOfRopeAndType) {
    LlamaConfig c = parse_llama_config(with("\"rope_theta\": 500000.0", "\"unused\": 0"), "config.json");
    EXPECT_EQ(c.rope_theta, 10000);
    c = parse_llama_config(with("\"rope_scaling\": {", "\"rope_parameters\": {\"rope_theta\": 7000, "), "config.json");
    EXPECT_EQ(c.rope_theta, 7000);
    ASSERT_TRUE(c.rope_scaling);
    EXPECT_EQ(parse_llama_config(with("\"torch_dtype\": \"bfloat16\"", "\"dtype\": \"float16\""), "config.json").torch_dtype,
              "float16");
    EXPECT_FALSE(parse_llama_config(with("\"rope_type\": \"llama3\"", "\"rope_type\": \"default\""), "config.json").rope_scaling);
    EXPECT_TRUE(parse_llama_config(with("\"rope_type\"", "\"type\""), "config.json").rope_scaling);
}

TEST(LlamaConfigs, ReadsWhatItWrote) {
    LlamaConfig c = parse_llama_config(llama3, "config.json");
    EXPECT_EQ(parse_llama_config(to_json(c), "again"), c);
    c.rope_scaling.reset();
    c.bos_token_id.reset();
    c.eos_token_ids = {5};
    c.tie_word_embeddings = false;
    c.head_dim = 64;
    c.torch_dtype = "float32";
    EXPECT_EQ(parse_llama_config(to_json(c), "again"), c);
    c.kv_heads = 7;
    EXPECT_CONTAINS(error_of([&] { to_json(c); }), "no multiple of num_key_value_heads");
}

TEST(LlamaConfigs, RefusesOtherModels) {
    EXPECT_CONTAINS(error(with("LlamaForCausalLM", "MistralForCausalLM")), "'architectures': expected [\"LlamaForCausalLM\"]");
    EXPECT_CONTAINS(error(with("\"model_type\": \"llama\"", "\"model_type\": \"qwen2\"")), "model_type 'qwen2' is not supported");
    EXPECT_CONTAINS(error(with("\"attention_bias\": false", "\"attention_bias\": true")), "'attention_bias' is true");
    EXPECT_CONTAINS(error(with("\"mlp_bias\": false", "\"mlp_bias\": true")), "'mlp_bias' is true");
    EXPECT_CONTAINS(error(with("\"silu\"", "\"gelu\"")), "hidden_act 'gelu' is not supported");
    EXPECT_CONTAINS(error(with("\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"")),
                    "rope_scaling: rope_type 'yarn' is not supported");
    EXPECT_CONTAINS(error(with("\"use_cache\": true", R"("quantization_config": {"quant_method": "gptq"})")), "gptq");
    EXPECT_CONTAINS(error(R"({"hidden_size": 4})"), "neither 'architectures' nor 'model_type'");
}

TEST(LlamaConfigs, RefusesValuesOutOfRange) {
    EXPECT_CONTAINS(error(with("\"hidden_size\": 3072", "\"unused\": 3072")), "the key 'hidden_size' is missing");
    EXPECT_CONTAINS(error(with("\"hidden_size\": 3072", "\"hidden_size\": -3072")), "'hidden_size' is -3072, expected 1 to");
    EXPECT_CONTAINS(error(with("\"hidden_size\": 3072", "\"hidden_size\": 3072.5")), "expected a whole number, found 3072.5");
    EXPECT_CONTAINS(error(with("\"hidden_size\": 3072", "\"hidden_size\": \"3072\"")), "expected a whole number, found \"3072\"");
    EXPECT_CONTAINS(error(with("\"hidden_size\": 3072", "\"hidden_size\": 18446744073709551615")), "below 2^63");
    EXPECT_CONTAINS(error(with("\"hidden_size\": 3072", "\"hidden_size\": 3073")), "no multiple of num_attention_heads 24");
    EXPECT_CONTAINS(error(with("\"num_attention_heads\": 24", "\"num_attention_heads\": 0")), "num_attention_heads 0");
    EXPECT_CONTAINS(error(with("\"num_key_value_heads\": 8", "\"num_key_value_heads\": 7")),
                    "24 is no multiple of num_key_value_heads 7");
    EXPECT_CONTAINS(error(with("\"num_key_value_heads\": 8", "\"num_key_value_heads\": 0")), "'num_key_value_heads' is 0");
    EXPECT_CONTAINS(error(with("\"use_cache\": true", "\"head_dim\": 127")), "head_dim 127 is odd");
    EXPECT_CONTAINS(error(with("\"num_hidden_layers\": 28", "\"num_hidden_layers\": 1000000000")),
                    "'num_hidden_layers' is 1000000000");
    EXPECT_CONTAINS(error(with("\"vocab_size\": 128256", "\"vocab_size\": 128000")),
                    "'bos_token_id' is 128000, outside the vocabulary");
    EXPECT_CONTAINS(error(with("128009]", "128256]")), "'eos_token_id' is 128256, outside");
    EXPECT_CONTAINS(error(with("128009]", "-1]")), "expected a token id");
    EXPECT_CONTAINS(error(with("1e-05", "-1e-05")), "'rms_norm_eps'");
    EXPECT_CONTAINS(error(with("1e-05", "1e999")), "not valid JSON");
    EXPECT_CONTAINS(error(with("500000.0", "0")), "'rope_theta' is 0");
    EXPECT_CONTAINS(error(with("\"factor\": 32.0", "\"factor\": 0.5")), "'factor' is 0.5");
    EXPECT_CONTAINS(error(with("\"low_freq_factor\": 1.0", "\"low_freq_factor\": 4.0")), "0 < low < high");
    EXPECT_CONTAINS(error(with("\"factor\": 32.0,", "")), "rope_scaling: the key 'factor' is missing");
    EXPECT_CONTAINS(error(with("\"original_max_position_embeddings\": 8192", "\"original_max_position_embeddings\": 0")),
                    "'original_max_position_embeddings' is 0");
    EXPECT_CONTAINS(error(with("\"bfloat16\"", "\"float8\"")), "torch_dtype 'float8'");
    EXPECT_CONTAINS(error(with("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1")), "expected true or false");
}

TEST(LlamaConfigs, SurvivesEveryTruncationAndRandomDamage) {
    for (size_t size = 0; size + 2 < llama3.size(); ++size) error(llama3.substr(0, size));
    error(std::string(1'000'000, '{'));
    error(std::string(1'000'000, '['));
    error("7");
    std::mt19937 random(2);
    int read = 0;
    for (int round = 0; round < 3000; ++round) {
        std::string text = llama3;
        for (int edit = 0; edit < 2; ++edit) text[random() % text.size()] = "0917-e.\"{}[],:\xff"[random() % 15];
        try {
            LlamaConfig c = parse_llama_config(text, "x");
            EXPECT_GT(c.parameters(), 0);
            ++read;
        } catch (const Error&) {
        }
    }
    EXPECT_GT(read, 0);
}

TEST(GenerationConfigs, ReadAndWritten) {
    GenerationConfig c = parse_generation_config(
        R"({"bos_token_id":1,"eos_token_id":[2,3],"pad_token_id":0,"do_sample":true,"temperature":0.6,"top_k":50,"top_p":0.9,"min_p":0.05,)"
        R"("repetition_penalty":1.1,"more":{}})",
        "g");
    EXPECT_EQ(c.bos_token_id, 1);
    EXPECT_EQ(c.eos_token_ids, (std::vector<int32_t>{2, 3}));
    EXPECT_EQ(c.pad_token_id, 0);
    EXPECT_EQ(c.do_sample, true);
    EXPECT_EQ(c.temperature, 0.6);
    EXPECT_EQ(c.top_k, 50);
    EXPECT_EQ(c.top_p, 0.9);
    EXPECT_EQ(c.min_p, 0.05);
    EXPECT_EQ(c.repetition_penalty, 1.1);
    EXPECT_EQ(parse_generation_config(to_json(c), "again"), c);
    EXPECT_EQ(parse_generation_config("{}", "g"), GenerationConfig{});
    EXPECT_EQ(parse_generation_config(to_json(GenerationConfig{}), "g"), GenerationConfig{});
    EXPECT_EQ(parse_generation_config(R"({"eos_token_id":7,"pad_token_id":-1,"top_k":null})", "g"),
              GenerationConfig{.eos_token_ids = {7}});
}

TEST(GenerationConfigs, RefuseWhatCannotBe) {
    auto message = [](std::string_view text) { return error_of([&] { parse_generation_config(text, "g"); }); };
    EXPECT_CONTAINS(message(R"({"temperature":-1})"), "g: 'temperature' is -1");
    EXPECT_CONTAINS(message(R"({"top_p":1.5})"), "'top_p' is 1.5");
    EXPECT_CONTAINS(message(R"({"top_k":-3})"), "'top_k' is -3");
    EXPECT_CONTAINS(message(R"({"min_p":2})"), "'min_p' is 2");
    EXPECT_CONTAINS(message(R"({"repetition_penalty":0})"), "'repetition_penalty' is 0");
    EXPECT_CONTAINS(message(R"({"eos_token_id":[1,"2"]})"), "'eos_token_id': expected a whole number, found \"2\"");
    EXPECT_CONTAINS(message(R"({"eos_token_id":4294967296})"), "expected a token id");
    EXPECT_CONTAINS(message(R"({"pad_token_id":-2})"), "expected a token id");
    EXPECT_CONTAINS(message("[]"), "expected a JSON object, found array");
}

TEST(GenerationConfigs, FallBackToTheIdsOfTheModel) {
    ScratchFolder scratch;
    write_file(scratch / "config.json", llama3);
    EXPECT_EQ(read_generation_config(scratch.path()).eos_token_ids.size(), 3u);
    write_file(scratch / "generation_config.json", R"({"eos_token_id":4})");
    EXPECT_EQ(read_generation_config(scratch.path()).eos_token_ids, (std::vector<int32_t>{4}));
}

TEST(QuantizationConfigs, ReadAndWritten) {
    QuantizationConfig c = parse_quantization_config(
        R"({"quant_method":"nonlinear","bits":2,"block_size":64,"relative_scale":"absmean","num_centroids":4,"centroids":[-1,-0.5,0.25,1]})",
        "q");
    EXPECT_EQ(c, (QuantizationConfig{"nonlinear", 2, 64, "absmean", 4, {-1, -0.5f, 0.25f, 1}, ""}));
    EXPECT_EQ(parse_quantization_config(to_json(c), "again"), c);
    c.bits = 3;
    c.packing = "dense_msb_first";
    EXPECT_EQ(parse_quantization_config(to_json(c), "again"), c);
    EXPECT_EQ(parse_quantization_config(R"({"quant_method":"sym_int","bits":4,"block_size":null,"num_centroids":null})", "q"),
              (QuantizationConfig{.quant_method = "sym_int", .bits = 4}));
    EXPECT_TRUE(parse_quantization_config(R"({"centroids":[[1,2]]})", "q").centroids.empty());
}

TEST(QuantizationConfigs, RefuseWhatCannotBe) {
    auto message = [](std::string_view text) { return error_of([&] { parse_quantization_config(text, "q"); }); };
    EXPECT_CONTAINS(message(R"({"bits":99})"), "q: 'bits' is 99");
    EXPECT_CONTAINS(message(R"({"bits":"two"})"), "'bits': expected a whole number");
    EXPECT_CONTAINS(message(R"({"num_centroids":-1})"), "'num_centroids' is -1");
    EXPECT_CONTAINS(message(R"({"block_size":-64})"), "'block_size' is -64");
    EXPECT_CONTAINS(message(R"({"quant_method":3})"), "'quant_method': expected a string, found 3");
}

}  // namespace
}  // namespace vkqat

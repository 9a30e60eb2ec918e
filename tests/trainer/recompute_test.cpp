// Activation checkpointing: less memory, the same bits.
#include "tests/support/gpu.h"
#include "trainer/random.h"
#include "trainer/training_step.h"

namespace vkqat {
namespace {

LlamaConfig small() {
    LlamaConfig c;
    c.vocab_size = 60;
    c.hidden_size = 32;
    c.intermediate_size = 96;
    c.layers = 4;
    c.heads = 4;
    c.kv_heads = 2;
    c.head_dim = 8;
    c.max_position_embeddings = 64;
    c.rope_theta = 10000;
    c.rms_norm_eps = 1e-5;
    return c;
}

struct Result {
    std::vector<float> weights;
    double loss;
    uint64_t bytes;
};

Result train(Recompute recompute) {
    ParameterStore parameters(test::device(), small(), llama_parameters(small(), false, {}), DType::f32);
    parameters.initialize(3);
    TrainingStep step(test::device(), parameters, {.batch = 2, .seq_len = 24, .recompute = recompute});
    for (uint64_t s = 0; s < 2; s++) {
        std::vector<Batch> batches(2, Batch(2, 24));
        for (size_t b = 0; b < batches.size(); b++)
            for (size_t i = 0; i < batches[b].ids.size(); i++) {
                batches[b].ids[i] = int32_t(mix64(s * 1000 + b * 100 + i) % 60);
                batches[b].labels[i] = int32_t(mix64(s * 1000 + b * 100 + i + 1) % 60);
                batches[b].document_start[i] = 0;
                batches[b].document_end[i] = 24;
            }
        step.run(batches, 1e-2);
    }
    Result result{{}, step.state().loss, step.activation_bytes()};
    for (size_t i = 0; i < parameters.parameters().size(); i++) {
        auto values = parameters.read(i, ParameterStore::Array::weight);
        result.weights.insert(result.weights.end(), values.begin(), values.end());
    }
    return result;
}

TEST(Recompute, CheckpointingChangesNothingButTheMemory) {
    const Result none = train(Recompute::none), selective = train(Recompute::selective), full = train(Recompute::full);
    EXPECT_EQ(selective.loss, none.loss);
    EXPECT_EQ(full.loss, none.loss);
    EXPECT_EQ(selective.weights, none.weights);
    EXPECT_EQ(full.weights, none.weights);
    EXPECT_LT(selective.bytes, none.bytes);
    EXPECT_LT(full.bytes, selective.bytes);
}

TEST(Recompute, WhatDoesNotFitIsRefusedWithASettingThatDoes) {
    ParameterStore parameters(test::device(), small(), llama_parameters(small(), false, {}), DType::f32);
    auto message = [&](uint64_t limit) -> std::string {
        try {
            TrainingStep(test::device(), parameters, {.batch = 4, .seq_len = 24, .activation_limit = limit});
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    auto bytes = [&](int64_t batch, Recompute mode) {
        return TrainingStep(test::device(), parameters, {.batch = batch, .seq_len = 24, .recompute = mode}).activation_bytes();
    };
    EXPECT_EQ(message(bytes(4, Recompute::none)), "");
    EXPECT_NE(message(bytes(4, Recompute::none) - 1).find("this fits: activation_checkpoint.mode = \"selective\" ("),
              std::string::npos);
    EXPECT_NE(message(bytes(4, Recompute::full)).find("mode = \"full\""), std::string::npos);
    EXPECT_NE(message(bytes(2, Recompute::full)).find("mode = \"full\" and training.local_batch_size = 2"), std::string::npos);
    EXPECT_NE(message(1000).find("smaller model"), std::string::npos);
}

TEST(Recompute, ModesHaveNames) {
    EXPECT_EQ(parse_recompute("full"), Recompute::full);
    EXPECT_THROW(parse_recompute("half"), Error);
}

}  // namespace
}  // namespace vkqat

// What is said before loading is what is there afterwards.
#include "runtime/model/memory.h"

#include "runtime/model/scorer.h"
#include "tests/support/gpu.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

class ReferenceMemory : public testing::Test {
protected:
    void SetUp() override {
        folder_ = test::reference_folder();
        if (folder_.empty()) GTEST_SKIP() << "no folder of reference vectors (VKQAT_REFERENCE)";
    }
    std::filesystem::path folder_;
};

TEST_F(ReferenceMemory, TheEstimateIsWhatLoadingTakes) {
    for (const char* model : {"tiny-bf16", "tiny-kmeans-4bit", "tiny-kmeans-1bit"}) {
        SCOPED_TRACE(model);
        const LlamaWeights planned(test::device(), folder_ / model, LlamaWeights::Planned{});
        const LlamaWeights loaded(test::device(), folder_ / model);
        EXPECT_EQ(planned.device_bytes(), loaded.device_bytes());
        EXPECT_GE(loaded.device_bytes(), loaded.bytes());  // tiles are padded
        for (DType cache : {DType::f32, DType::f16, DType::i8}) {
            const SequencesOptions options{.count = 3, .context = 48, .prefill_rows = 32, .cache = cache};
            const MemoryNeed need = memory_need(planned, options);
            const Sequences real(loaded, options);
            EXPECT_EQ(need.weights, loaded.device_bytes());
            EXPECT_EQ(need.cache, real.cache_bytes());
            EXPECT_EQ(need.workspace, real.workspace_bytes());
            EXPECT_EQ(need.cache + need.workspace + need.rest, real.device_bytes());
        }
        EXPECT_EQ(Scorer(planned, 2, 20).device_bytes(), Scorer(loaded, 2, 20).device_bytes());
        const std::vector<int32_t> tokens(40, 0);
        EXPECT_THROW(Scorer(planned, 2, 20).score(tokens, tokens, tokens, tokens), Error);
    }
}

TEST_F(ReferenceMemory, TheLargestContextFitsAndALargerDoesNot) {
    const LlamaWeights planned(test::device(), folder_ / "tiny-kmeans-4bit", LlamaWeights::Planned{});
    const SequencesOptions options{.count = 2, .context = 100, .prefill_rows = 16};
    const int64_t all = planned.config().max_position_embeddings;
    auto total = [&](int64_t context) {
        SequencesOptions o = options;
        o.context = context;
        return memory_need(planned, o).total();
    };
    EXPECT_EQ(largest_context(planned, options, UINT64_MAX), all);
    EXPECT_EQ(largest_context(planned, options, total(1) - 1), 0);
    const uint64_t free = (total(all) + total(1)) / 2;
    const int64_t found = largest_context(planned, options, free);
    EXPECT_LE(total(found), free);
    EXPECT_GT(total(found + std::max<int64_t>(1, found / 100)), free);
}

TEST_F(ReferenceMemory, WhatDoesNotFitIsRefusedWithWhatWould) {
    LlamaConfig config = LlamaWeights(test::device(), folder_ / "tiny-bf16", LlamaWeights::Planned{}).config();
    config.max_position_embeddings = int64_t(1) << 26;
    const LlamaWeights planned(test::device(), config, LlamaWeights::Random{.bits = 0, .planned = true});
    if (test::device().free_memory() > uint64_t(32) << 30)
        GTEST_SKIP() << "a tiny model fills this memory only with a context whose tensors exceed one allocation";
    // Half of what is free would be the positions' cache of one of four texts.
    const uint64_t position = memory_need(planned, {.context = 1001}).cache / 1001;
    const int64_t context = int64_t(test::device().free_memory() / position / 2);
    EXPECT_NO_THROW(require_memory(planned, {.context = 1000}, "tiny"));
    try {
        require_memory(planned, {.count = 4, .context = context}, "tiny");
        ADD_FAILURE() << "no error";
    } catch (const Error& e) {
        const std::string text = e.what();
        for (const char* part : {"tiny with a context of", "for each of 4 texts", "weights 0.00 GB", "are free",
                                 "1 at a time would fit", "; a context of", "--cache i8"})
            EXPECT_NE(text.find(part), text.npos) << part << " in " << text;
    }
}

TEST_F(ReferenceMemory, PlannedWeightsCannotRun) {
    const LlamaWeights planned(test::device(), folder_ / "tiny-bf16", LlamaWeights::Planned{});
    EXPECT_THROW(all_logits(planned, std::vector<int32_t>{1, 2}), Error);
    const LlamaWeights loaded(test::device(), folder_ / "tiny-bf16");
    EXPECT_THROW(memory_need(loaded, {.context = 8}), Error);
}

}  // namespace
}  // namespace vkqat

// A training so small that a step takes milliseconds: some sample stories, a tokenizer of 300 ids, a model of two layers.
#pragma once

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/support/files.h"
#include "runtime/text/bpe_trainer.h"
#include "tests/support/gpu.h"
#include "tests/support/scratch_folder.h"
#include "trainer/sample_corpus.h"
#include "trainer/train.h"

namespace vkqat::test {

// Makes corpus and tokenizer in `folder`; the run writes to `folder`/run.
inline TrainConfig tiny_config(const std::filesystem::path& folder) {
    std::mt19937_64 random(7);
    std::vector<std::string> stories;
    std::string corpus, valid;
    for (int i = 0; i < 60; i++) {
        stories.push_back(sample_story(random));
        (i < 50 ? corpus : valid) += stories.back() + "\n\n";
    }
    std::filesystem::create_directories(folder);
    if (!std::filesystem::exists(folder / "train.txt")) {  // a new time would make a new token cache
        std::ofstream(folder / "train.txt") << corpus;
        std::ofstream(folder / "valid.txt") << valid;
        BpeTrainingOptions options{.vocab_size = 300};
        write_tokenizer(folder / "tokenizer", train_bpe(stories, options), options);
    }
    TrainConfig c;
    c.job.dump_folder = (folder / "run").string();
    c.model.tokenizer_path = (folder / "tokenizer").string();
    c.model.hidden_size = 32;
    c.model.intermediate_size = 64;
    c.model.num_hidden_layers = 2;
    c.model.num_attention_heads = 2;
    c.model.num_key_value_heads = 1;
    c.training.dataset = {(folder / "train.txt").string()};
    c.training.seq_len = 32;
    c.training.local_batch_size = 4;
    c.training.steps = 12;
    c.training.precision = "fp32";
    c.optimizer.lr = 1e-2;
    c.lr_scheduler.warmup_steps = 4;
    c.metrics.log_freq = 1;
    c.checkpoint.interval = 4;
    c.quantization.block_dim_2 = 16;
    return c;
}

// 2-bit k-means from step 5 on, fitted again at steps 6, 9 and 12.
inline void quantize(TrainConfig& c) {
    c.quantization.quantizer = "nonlinear";
    c.quantization.qat_start_step = 5;
    c.quantization.buffer_update_interval = 3;
}

struct Log {
    std::vector<std::string> lines;
    TrainOutput output() {
        return {.line = [this](const std::string& line) { lines.push_back(line); }};
    }
    bool contains(std::string_view part) const {
        for (const std::string& line : lines)
            if (line.find(part) != std::string::npos) return true;
        return false;
    }
};

inline TrainResult run(const TrainConfig& config, TrainOptions options = {}, Log* log = nullptr) {
    Log unused;
    return train(device(), config, options, (log ? *log : unused).output());
}

// Runs until `step` is done.
inline TrainResult run_until(const TrainConfig& config, int64_t step, bool resume) {
    int64_t done = -1;
    TrainOptions options{.resume = resume};
    options.before_step = [&](int64_t now, ParameterStore&) { done = now; };
    options.stop = [&] { return done >= step; };
    return run(config, options);
}

inline std::vector<nlohmann::json> metrics(const TrainConfig& config) {
    std::ifstream file(std::filesystem::path(config.job.dump_folder) / "metrics.jsonl");
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
}

// What must be equal in two runs: everything but times.
inline std::vector<nlohmann::json> timeless_metrics(const TrainConfig& config) {
    std::vector<nlohmann::json> lines = metrics(config);
    for (nlohmann::json& line : lines)
        for (const char* key : {"tokens_per_second", "flops_per_second", "seconds"}) line.erase(key);
    return lines;
}

inline std::vector<std::string> names_in(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

// All arrays of both runs' checkpoints of this step are the same bytes, and both go on alike.
inline void expect_same_checkpoint(const TrainConfig& a, const TrainConfig& b, int64_t step) {
    const std::string name = fmt::format("step-{:08}", step);
    const auto folder_a = a.checkpoint_folder() / name, folder_b = b.checkpoint_folder() / name;
    ASSERT_EQ(names_in(folder_a), names_in(folder_b));
    for (const std::string& file : names_in(folder_a)) {
        if (!file.ends_with(".safetensors")) continue;
        EXPECT_TRUE(read_text_file(folder_a / file) == read_text_file(folder_b / file)) << file << " differs";
    }
    Checkpoint ca(folder_a), cb(folder_b);
    EXPECT_EQ(ca.state().data, cb.state().data);
    EXPECT_EQ(ca.state().quantized, cb.state().quantized);
    EXPECT_EQ(std::memcmp(&ca.state().optimizer, &cb.state().optimizer, sizeof(AdamwState)), 0);
}

inline void flip_byte(const std::filesystem::path& path, int64_t from_end) {
    std::string bytes = read_text_file(path);
    bytes[bytes.size() - size_t(from_end)] ^= 1;
    std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace vkqat::test

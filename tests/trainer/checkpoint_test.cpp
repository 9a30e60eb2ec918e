// Checkpoints are untrusted files: damage of any kind is found, and the message says where.
#include "trainer/checkpoint.h"

#include "runtime/support/hash.h"
#include "runtime/text/tokenizer.h"
#include "tests/trainer/tiny_run.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::ScratchFolder;

// A checkpoint of a quantized run.
fs::path make_checkpoint(const ScratchFolder& folder) {
    TrainConfig config = test::tiny_config(folder.path());
    config.training.steps = 2;
    config.quantization.quantizer = "nonlinear";
    test::run(config);
    return config.checkpoint_folder() / "step-00000002";
}

TEST(CheckpointFolder, HoldsAllThatExportNeeds) {
    ScratchFolder folder;
    const fs::path path = make_checkpoint(folder);
    fs::remove_all(folder / "tokenizer");
    fs::remove(folder / "train.txt");
    const Checkpoint checkpoint(path);
    EXPECT_EQ(checkpoint.state().step, 2);
    EXPECT_TRUE(checkpoint.state().quantized);
    EXPECT_EQ(checkpoint.state().optimizer.step, 2u);
    EXPECT_EQ(checkpoint.state().data.windows, 8u);
    EXPECT_EQ(checkpoint.config().quantization.quantizer, "nonlinear");
    EXPECT_EQ(checkpoint.model().vocab_size, int64_t(load_tokenizer(checkpoint.tokenizer()).vocab_size()));
    EXPECT_EQ(read_floats(*checkpoint.centroids("model.layers.0.self_attn.q_proj")).size(), 4u);
    EXPECT_EQ(checkpoint.centroids("lm_head"), nullptr);
}

TEST(CheckpointFolder, EveryDamagedFileIsFoundAndNamed) {
    ScratchFolder folder;
    const fs::path path = make_checkpoint(folder);
    size_t files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(path)) {
        if (!entry.is_regular_file()) continue;
        files++;
        const fs::path file = entry.path();
        const std::string whole = read_text_file(file), name = file.filename().string();
        SCOPED_TRACE(name);
        test::flip_byte(file, int64_t(whole.size() / 2));  // in the middle
        EXPECT_CONTAINS(error_of([&] { Checkpoint c(path); }), name);
        std::ofstream(file, std::ios::binary) << whole.substr(0, whole.size() / 2);
        EXPECT_CONTAINS(error_of([&] { Checkpoint c(path); }), name);
        fs::remove(file);
        EXPECT_CONTAINS(error_of([&] { Checkpoint c(path); }), name);
        std::ofstream(file, std::ios::binary) << whole;
    }
    EXPECT_GE(files, 9u);
    EXPECT_EQ(Checkpoint(path).state().step, 2);

    test::flip_byte(path / "first_moment.safetensors", 1);
    const std::string error = error_of([&] { Checkpoint c(path); });
    EXPECT_CONTAINS(error, "first_moment.safetensors: tensor '");
    EXPECT_CONTAINS(error, "expected checksum");
}

// A manifest changed by hand, with a checksum of its own that is right or not asked for.
TEST(CheckpointFolder, ManifestIsNotTrusted) {
    ScratchFolder folder;
    const fs::path path = make_checkpoint(folder), file = path / "manifest.json";
    const nlohmann::json whole = nlohmann::json::parse(read_text_file(file));
    auto error = [&](auto change) {
        nlohmann::json manifest = whole;
        change(manifest);
        manifest.erase("checksum");
        const std::string text = manifest.dump();
        manifest["checksum"] = fmt::format("{:08x}", checksum(std::as_bytes(std::span(text.data(), text.size()))));
        std::ofstream(file) << manifest.dump();
        return error_of([&] { Checkpoint c(path); });
    };
    using Json = nlohmann::json;
    EXPECT_CONTAINS(error([](Json& m) { m["version"] = 2; }), "expected format version 1, found 2");
    EXPECT_CONTAINS(error([](Json& m) { m["format"] = "other"; }), "is no manifest of a checkpoint");
    EXPECT_CONTAINS(error([](Json& m) { m["step"] = "two"; }), "manifest.json: is malformed");
    EXPECT_CONTAINS(error([](Json& m) { m.erase("optimizer"); }), "manifest.json: is malformed");
    EXPECT_CONTAINS(error([](Json& m) { m["data"]["datasets"][0]["offset"] = -1; }), "offset");
    EXPECT_CONTAINS(error([](Json& m) { m["files"]["../../train.txt"] = m["files"]["config.toml"]; }), "the manifest names");
    EXPECT_CONTAINS(error([](Json& m) { m["tensors"]["weights.safetensors"].erase("model.norm.weight"); }),
                    "'model.norm.weight' is not in the manifest");
    EXPECT_CONTAINS(error([](Json& m) {
                        m["tensors"]["weights.safetensors"]["more"] = {{"shape", {1}}, {"checksum", ""}};
                    }),
                    "has no tensor 'more'");
    EXPECT_CONTAINS(error([](Json& m) {
                        m["tensors"]["weights.safetensors"]["model.norm.weight"]["shape"] = {16, 2};
                    }),
                    "expected shape [16, 2], found [32]");
    EXPECT_CONTAINS(error([](Json& m) { m["files"]["config.toml"]["bytes"] = 7; }), "config.toml: is damaged: expected size 7");
    std::ofstream(file) << std::string(100000, '[');
    EXPECT_CONTAINS(error_of([&] { Checkpoint c(path); }), "manifest.json");
    Json changed = whole;
    changed["step"] = 3;
    std::ofstream(file) << changed.dump();
    EXPECT_CONTAINS(error_of([&] { Checkpoint c(path); }), "manifest.json: is damaged: expected checksum");
}

TEST(CheckpointFolder, AnotherModelIsRefused) {
    ScratchFolder folder;
    const Checkpoint checkpoint(make_checkpoint(folder));
    auto restore = [&](auto change, int bits) {
        LlamaConfig model = checkpoint.model();
        change(model);
        TrainConfig config = checkpoint.config();
        config.quantization.target_bit_width = bits;
        ParameterStore parameters(test::device(), model, llama_parameters(model, true, {"output"}), DType::f32);
        TrainingStep training(test::device(), parameters, {.seq_len = 16, .quantizer = quantizer_config(config)});
        return error_of([&] { checkpoint.restore(parameters, training); });
    };
    EXPECT_CONTAINS(restore([](LlamaConfig& m) { m.layers = 3; }, 2), "has 21 tensors, the model has 30 parameters");
    const std::string error = restore([](LlamaConfig& m) { m.intermediate_size = 32; }, 2);
    EXPECT_CONTAINS(error, "weights.safetensors: tensor 'model.layers.0.mlp.gate_proj.weight'");
    EXPECT_CONTAINS(error, "the model needs [32, 32], found [64, 32]");
    EXPECT_CONTAINS(restore([](LlamaConfig&) {}, 4), "the quantizer has 16, found [4]");
}

TEST(CheckpointFolder, OnlyCompleteOnesAreSeen) {
    ScratchFolder folder;
    EXPECT_FALSE(latest_checkpoint(folder / "missing", {}));
    for (const char* name : {"step-00000009.tmp77", "step-x", "step-00000007.damaged", "other"})
        fs::create_directory(folder / name);
    EXPECT_FALSE(latest_checkpoint(folder.path(), {}));
    tidy_checkpoints(folder.path(), 0, {});
    EXPECT_EQ(test::names_in(folder.path()), (std::vector<std::string>{"other", "step-00000007.damaged", "step-x"}));
    EXPECT_CONTAINS(error_of([&] { open_checkpoint(folder / "missing", {}); }), "is no folder");
}

}  // namespace
}  // namespace vkqat

// From examples to a model that answers: vkqat train, export and chat.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/text/chat_template.h"
#include "tests/tools/program.h"
#include "tests/trainer/tiny_run.h"

namespace vkqat::test {
namespace {

class FineTuning : public testing::Test {
protected:
    void SetUp() override {
        BpeTrainingOptions options{.vocab_size = 300};
        for (const char* token : {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"})
            options.special_tokens.push_back(token);
        options.chat_template = llama3_chat_template;
        const std::vector<std::string> text(
            3, "what do cats say? meow. what do dogs say? woof woof. how many legs has a cow? four.");
        write_tokenizer(folder / "tokenizer", train_bpe(text, options), options);
        folder.write("sft.json", R"([
            {"instruction": "what do cats say?", "input": "", "output": "meow."},
            {"instruction": "what do dogs say?", "input": "", "output": "woof woof."},
            {"messages": [{"role": "user", "content": "how many legs has a cow?"}, {"role": "assistant", "content": "four."}]}])");
    }
    TrainConfig config() const {
        TrainConfig c = tiny_config(folder / "tiny");
        c.model.tokenizer_path = (folder / "tokenizer").string();
        c.training.dataset = {(folder / "sft.json").string()};
        c.training.dataset_type = "sft";
        c.training.seq_len = 128;
        c.training.local_batch_size = 1;
        c.training.steps = 150;
        c.checkpoint.interval = 1000;
        c.metrics.log_freq = 50;
        return c;
    }
    void train(const std::string& name, const TrainConfig& c) {
        const ProgramResult result = run_on_device({"train", folder.write(name, to_toml(c)).string()});
        ASSERT_EQ(result.exit_code, 0) << result.out << result.err;
    }
    std::string chat(const TrainConfig& c, const std::string& input, std::vector<std::string> more = {}) {
        const std::string model = c.job.dump_folder + "-model";
        if (!std::filesystem::exists(model)) {
            const ProgramResult result = run_program({"export", c.job.dump_folder, model});
            EXPECT_EQ(result.exit_code, 0) << result.err;
        }
        std::vector<std::string> arguments{"chat", model, "--greedy", "--max-tokens", "20"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const ProgramResult result = run_on_device(arguments, input);
        EXPECT_EQ(result.exit_code, 0) << result.err;
        EXPECT_EQ(result.err.find("--max-tokens reached"), std::string::npos) << "each answer ends by itself";
        return result.out;
    }
    ScratchFolder folder;
};

TEST_F(FineTuning, TheModelGivesTheAnswersThatItLearntAndStops) {
    const TrainConfig c = config();
    train("sft.toml", c);
    EXPECT_EQ(chat(c, "what do cats say?\n/reset\nwhat do dogs say?\n/reset\nhow many legs has a cow?\n"),
              "meow.\nwoof woof.\nfour.\n");
}

TEST_F(FineTuning, GoesOnFromAQuantizedRun) {
    TrainConfig base = config();
    base.quantization.quantizer = "nonlinear";
    base.quantization.target_bit_width = 4;
    base.training.steps = 20;
    train("base.toml", base);
    TrainConfig c = base;
    c.job.dump_folder += "-tuned";
    c.checkpoint.initial_load_path = base.job.dump_folder;
    c.model = {};
    c.training.steps = 150;
    train("sft.toml", c);
    const Checkpoint before = open_checkpoint(base.job.dump_folder, {}), after = open_checkpoint(c.job.dump_folder, {});
    EXPECT_TRUE(after.state().quantized);
    const std::string layer = "model.layers.0.self_attn.q_proj";
    ASSERT_NE(after.centroids(layer), nullptr);
    EXPECT_EQ(read_floats(*after.centroids(layer)), read_floats(*before.centroids(layer))) << "centroids stay";
    EXPECT_EQ(chat(c, "what do cats say?\n/reset\nwhat do dogs say?\n"), "meow.\nwoof woof.\n");
}

}  // namespace
}  // namespace vkqat::test

// The training loop: it learns, logs, stops, resumes with the same bits, and says clearly what it cannot do.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "tests/trainer/tiny_run.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::Log;
using test::metrics;
using test::run;
using test::run_until;
using test::ScratchFolder;

TEST(Training, LossFallsAndEverythingIsWrittenDown) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.training.steps = 40;
    config.checkpoint.interval = 1000;
    config.validation.enable = true;
    config.validation.dataset = {(folder / "valid.txt").string()};
    config.validation.freq = 20;
    Log log;
    TrainResult result = run(config, {}, &log);
    EXPECT_TRUE(result.finished);
    EXPECT_EQ(result.step, 40);

    std::vector<nlohmann::json> steps, validations;
    for (const auto& line : metrics(config)) (line.contains("loss") ? steps : validations).push_back(line);
    ASSERT_EQ(steps.size(), 40u);
    ASSERT_EQ(validations.size(), 2u);
    EXPECT_NEAR(steps[0]["loss"].get<double>(), std::log(300.0), 1.0);  // at first all ids are about equally likely
    // Some hundred windows of simple text teach it at least the frequencies of the ids.
    EXPECT_LT(steps[39]["loss"].get<double>(), steps[0]["loss"].get<double>() - 1);
    EXPECT_LT(validations[1]["validation_loss"].get<double>(), validations[0]["validation_loss"].get<double>());
    EXPECT_NEAR(validations[1]["validation_loss"].get<double>(), steps[39]["loss"].get<double>(), 1.0);
    LearningRateSchedule schedule{config.optimizer.lr, 40, 4, 0.2, "linear", 0};
    for (size_t i = 0; i < steps.size(); i++) {
        EXPECT_EQ(steps[i]["step"], i + 1);
        EXPECT_EQ(steps[i]["learning_rate"].get<double>(), schedule.at(int64_t(i) + 1));
        EXPECT_EQ(steps[i]["tokens"], (i + 1) * 128);
    }
    for (const char* part : {"device", "precision   fp32", "model", "parameters", "memory", "checkpoint", "done: 40 steps"})
        EXPECT_TRUE(log.contains(part)) << part;
    EXPECT_EQ(load_train_config(fs::path(config.job.dump_folder) / "config.toml"), config);
    EXPECT_EQ(test::names_in(config.checkpoint_folder()), std::vector<std::string>{"step-00000040"});
}

TEST(Training, StoppedAndResumedRunHasTheSameBits) {
    ScratchFolder folder;
    TrainConfig whole = test::tiny_config(folder.path()), parts = whole;
    test::quantize(whole);
    test::quantize(parts);
    parts.job.dump_folder = (folder / "parts").string();
    EXPECT_TRUE(run(whole).finished);
    // Behind step 4 quantization is still off, behind 7 it is on.
    TrainResult stopped = run_until(parts, 3, false);
    EXPECT_FALSE(stopped.finished);
    EXPECT_EQ(stopped.step, 3);
    EXPECT_EQ(run_until(parts, 7, true).step, 7);
    EXPECT_TRUE(run(parts, {.resume = true}).finished);
    EXPECT_EQ(test::timeless_metrics(parts), test::timeless_metrics(whole));
    test::expect_same_checkpoint(whole, parts, 12);
    EXPECT_NE(Checkpoint(parts.checkpoint_folder() / "step-00000012").centroids("model.layers.1.mlp.down_proj"), nullptr);
}

TEST(Training, MomentsInBf16LearnAsWellAndResumeWithTheSameBits) {
    ScratchFolder folder;
    TrainConfig exact = test::tiny_config(folder.path()), whole = exact, parts = exact;
    exact.job.dump_folder = (folder / "exact").string();
    whole.optimizer.moments = parts.optimizer.moments = "bf16";
    parts.job.dump_folder = (folder / "parts").string();
    EXPECT_TRUE(run(exact).finished);
    EXPECT_TRUE(run(whole).finished);
    run_until(parts, 7, false);
    EXPECT_TRUE(run(parts, {.resume = true}).finished);
    test::expect_same_checkpoint(whole, parts, 12);
    auto last_loss = [](const TrainConfig& c) {
        double loss = 0;
        for (const nlohmann::json& line : test::metrics(c))
            if (line.contains("loss")) loss = line["loss"].get<double>();
        return loss;
    };
    EXPECT_NE(last_loss(whole), last_loss(exact));
    EXPECT_NEAR(last_loss(whole), last_loss(exact), 5e-3 * last_loss(exact));
}

TEST(Training, StepsBehindTheLastCheckpointAreDoneAgain) {
    ScratchFolder folder;
    TrainConfig whole = test::tiny_config(folder.path()), torn = whole;
    torn.job.dump_folder = (folder / "torn").string();
    run(whole);
    // As after kill -9 behind step 6: the checkpoint of step 4, metrics beyond it, the last line cut off, a half-written
    // checkpoint.
    TrainOptions options;
    options.before_step = [](int64_t step, ParameterStore&) {
        if (step == 7) throw Error("killed");
    };
    EXPECT_EQ(error_of([&] { run(torn, options); }), "killed");
    std::ofstream(fs::path(torn.job.dump_folder) / "metrics.jsonl", std::ios::app) << "{\"step\": 7, \"lo";
    fs::create_directories(torn.checkpoint_folder() / "step-00000008.tmp123");
    run(torn, {.resume = true});
    EXPECT_EQ(test::timeless_metrics(torn), test::timeless_metrics(whole));
    test::expect_same_checkpoint(whole, torn, 12);
    EXPECT_EQ(test::names_in(torn.checkpoint_folder()), test::names_in(whole.checkpoint_folder()));
}

TEST(Training, DamagedCheckpointFallsBackToTheOneBefore) {
    ScratchFolder folder;
    TrainConfig whole = test::tiny_config(folder.path()), damaged = whole;
    damaged.job.dump_folder = (folder / "damaged").string();
    run(whole);
    run_until(damaged, 9, false);  // checkpoints of steps 4, 8 and 9
    const fs::path checkpoints = damaged.checkpoint_folder();
    test::flip_byte(checkpoints / "step-00000009" / "second_moment.safetensors", 100);
    fs::resize_file(checkpoints / "step-00000008" / "weights.safetensors", 5000);
    Log log;
    run(damaged, {.resume = true}, &log);
    EXPECT_TRUE(log.contains("passing over a damaged checkpoint"));
    EXPECT_TRUE(log.contains("second_moment.safetensors: tensor '"));
    EXPECT_TRUE(log.contains("weights.safetensors"));
    EXPECT_TRUE(log.contains("from " + (checkpoints / "step-00000004").string()));
    test::expect_same_checkpoint(whole, damaged, 12);

    for (const auto& name : test::names_in(checkpoints))
        if (fs::exists(checkpoints / name / "manifest.json")) test::flip_byte(checkpoints / name / "manifest.json", 50);
    std::string error = error_of([&] { run(damaged, {.resume = true}); });
    EXPECT_CONTAINS(error, "all checkpoints are damaged");
}

TEST(Training, KeepsTheLatestCheckpoints) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.checkpoint.interval = 2;
    config.checkpoint.keep_latest_k = 2;
    run(config);
    EXPECT_EQ(test::names_in(config.checkpoint_folder()), (std::vector<std::string>{"step-00000010", "step-00000012"}));
}

TEST(Training, WritesNoCheckpointWhereTheyAreOff) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.training.steps = 3;
    config.checkpoint.enable = false;
    run(config);
    EXPECT_FALSE(fs::exists(config.checkpoint_folder()));
}

TEST(Training, AccumulatedBatchesEqualOneLargeBatch) {
    ScratchFolder folder;
    TrainConfig one = test::tiny_config(folder.path()), four = one;
    one.training.steps = four.training.steps = 4;
    one.training.local_batch_size = 8;
    four.training.local_batch_size = 2;
    four.training.global_batch_size = 8;
    four.job.dump_folder = (folder / "four").string();
    run(one);
    run(four);
    auto a = metrics(one), b = metrics(four);
    ASSERT_EQ(a.size(), 4u);
    ASSERT_EQ(b.size(), 4u);
    for (size_t i = 0; i < a.size(); i++) {
        // Only the order of fp32 sums differs; each step of AdamW at the start magnifies that, as it divides by small numbers.
        double bound = i == 0 ? 1e-6 : 1e-4;
        EXPECT_NEAR(a[i]["loss"].get<double>(), b[i]["loss"].get<double>(), bound * a[i]["loss"].get<double>()) << i;
        EXPECT_NEAR(a[i]["gradient_norm"].get<double>(), b[i]["gradient_norm"].get<double>(),
                    10 * bound * a[i]["gradient_norm"].get<double>())
            << i;
        EXPECT_EQ(a[i]["tokens"], b[i]["tokens"]);
    }
}

// Makes the norm behind the last layer NaN from step `first` to `last`.
TrainOptions with_nan(int64_t first, int64_t last) {
    TrainOptions options;
    options.before_step = [=, saved = std::vector<float>()](int64_t step, ParameterStore& parameters) mutable {
        const size_t norm = parameters.index("model.norm.weight");
        if (step == first) {
            saved = parameters.read(norm, ParameterStore::Array::weight);
            parameters.write(norm, ParameterStore::Array::weight,
                             std::vector<float>(saved.size(), std::numeric_limits<float>::quiet_NaN()));
        }
        if (step == last + 1) parameters.write(norm, ParameterStore::Array::weight, saved);
    };
    return options;
}

TEST(Training, NonFiniteStepsAreSkippedAndCounted) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.training.steps = 8;
    Log log;
    TrainResult result = run(config, with_nan(4, 5), &log);
    EXPECT_TRUE(result.finished);
    EXPECT_EQ(result.skipped, 2);
    EXPECT_TRUE(std::isfinite(result.loss));
    EXPECT_TRUE(log.contains("step 4: skipped"));
    EXPECT_TRUE(log.contains("2 steps skipped"));
    std::vector<int64_t> skipped;
    for (const auto& line : metrics(config)) {
        if (line.value("skipped", false)) skipped.push_back(line["step"]);
        if (line["step"] == 8) {
            EXPECT_EQ(line["skipped_steps"], 2);
        }
    }
    EXPECT_EQ(skipped, (std::vector<int64_t>{4, 5}));
    EXPECT_EQ(Checkpoint(config.checkpoint_folder() / "step-00000008").state().optimizer.step, 6u);
}

TEST(Training, TooManyNonFiniteStepsInARowStopTheRun) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.training.max_consecutive_skips = 2;
    std::string error = error_of([&] { run(config, with_nan(6, 100)); });
    EXPECT_CONTAINS(error, "step 8: 3 steps in a row");
    EXPECT_CONTAINS(error, "max_consecutive_skips = 2");
    EXPECT_EQ(test::names_in(config.checkpoint_folder()), std::vector<std::string>{"step-00000004"});
}

// Files cannot grow beyond `bytes`: to a program that looks like a disk without room.
class SmallDisk {
public:
    explicit SmallDisk(rlim_t bytes) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        old_action_ = ::signal(SIGXFSZ, SIG_IGN);
        rlimit small = before_;
        small.rlim_cur = bytes;
        ::setrlimit(RLIMIT_FSIZE, &small);
    }
    ~SmallDisk() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        ::signal(SIGXFSZ, old_action_);
    }

private:
    rlimit before_{};
    void (*old_action_)(int) = nullptr;
};

TEST(Training, ACheckpointThatFindsAFullDiskIsTriedAgainAndLosesNothing) {
    for (bool async : {true, false}) {
        SCOPED_TRACE(async);
        ScratchFolder folder;
        TrainConfig whole = test::tiny_config(folder.path()), config = whole;
        config.job.dump_folder = (folder / "full").string();
        config.checkpoint.async = async;
        config.checkpoint.interval = 2;
        run(whole);
        std::optional<SmallDisk> disk;
        TrainOptions options;
        options.before_step = [&](int64_t step, ParameterStore&) {
            // From step 5 on the weights are too large for the disk, and from step 7 on the metrics, too.
            if (step == 5) {
                for (int i = 0; i < 2000 && !fs::exists(config.checkpoint_folder() / "step-00000004"); i++) ::usleep(5000);
                disk.emplace(20000);
            }
            if (step == 7) {
                disk.reset();
                disk.emplace(1);
            }
            if (step == 9) {
                EXPECT_EQ(test::names_in(config.checkpoint_folder())[0], "step-00000002");
                EXPECT_EQ(test::names_in(config.checkpoint_folder())[1], "step-00000004");
                EXPECT_FALSE(fs::exists(config.checkpoint_folder() / "step-00000006"));
                disk.reset();
            }
        };
        Log log;
        EXPECT_TRUE(run(config, options, &log).finished);
        EXPECT_TRUE(log.contains("step 6: the checkpoint failed: "));
        EXPECT_TRUE(log.contains("cannot write: File too large; that of step 4 is whole; the training goes on and tries again"));
        EXPECT_EQ(test::timeless_metrics(config), test::timeless_metrics(whole));
        test::expect_same_checkpoint(whole, config, 12);
    }
}

TEST(Training, ALastCheckpointThatFindsAFullDiskIsAnErrorAndTheOneBeforeServes) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.checkpoint.interval = 8;
    std::optional<SmallDisk> disk;
    TrainOptions options{.resume_command = "train-again"};
    options.before_step = [&](int64_t step, ParameterStore&) {
        if (step != 12) return;
        for (int i = 0; i < 2000 && !fs::exists(config.checkpoint_folder() / "step-00000008"); i++) ::usleep(5000);
        disk.emplace(20000);
    };
    Log log;
    std::string error = error_of([&] { run(config, options, &log); });
    disk.reset();
    EXPECT_CONTAINS(error, "the checkpoint of step 12, the last one, could not be written (that of step 8 is whole)");
    EXPECT_CONTAINS(error, "train-again");
    EXPECT_TRUE(log.contains("weights.safetensors: cannot write"));
    EXPECT_EQ(test::names_in(config.checkpoint_folder()), std::vector<std::string>{"step-00000008"});
    EXPECT_TRUE(run(config, {.resume = true}).finished);
}

TEST(Training, AsynchronousCheckpointsAreThoseWrittenWhileItWaits) {
    ScratchFolder folder;
    TrainConfig waits = test::tiny_config(folder.path()), beside = waits;
    test::quantize(waits);
    test::quantize(beside);
    waits.checkpoint.async = false;
    beside.job.dump_folder = (folder / "beside").string();
    waits.checkpoint.interval = beside.checkpoint.interval = 1;  // the next one is due while one is being written
    waits.checkpoint.keep_latest_k = beside.checkpoint.keep_latest_k = 0;
    run(waits);
    run(beside);
    for (int64_t step = 1; step <= 12; step++) test::expect_same_checkpoint(waits, beside, step);
}

TEST(Training, AnExistingRunIsNotOverwritten) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    config.training.steps = 2;
    EXPECT_CONTAINS(error_of([&] { run(config, {.resume = true}); }), "no run to resume");
    EXPECT_FALSE(fs::exists(config.job.dump_folder));
    run(config);
    std::string before = read_text_file(fs::path(config.job.dump_folder) / "metrics.jsonl");
    std::string error = error_of([&] { run(config); });
    EXPECT_CONTAINS(error, "--resume");
    EXPECT_CONTAINS(error, "job.dump_folder");
    EXPECT_EQ(read_text_file(fs::path(config.job.dump_folder) / "metrics.jsonl"), before);

    Log log;  // a run that is complete stays as it is
    EXPECT_TRUE(run(config, {.resume = true}, &log).finished);
    EXPECT_TRUE(log.contains("2 of 2 steps are done"));
    EXPECT_EQ(read_text_file(fs::path(config.job.dump_folder) / "metrics.jsonl"), before);

    TrainConfig other = config;
    other.model.hidden_size = 64;
    error = error_of([&] { run(other, {.resume = true}); });
    EXPECT_CONTAINS(error, "hidden_size is 32 in the checkpoint, but 64 in the configuration");
    other = config;
    other.training.seed = 2;
    EXPECT_CONTAINS(error_of([&] { run(other, {.resume = true}); }), "seed");
}

TEST(Training, QuantizerOfAQuantizedRunCannotChange) {
    ScratchFolder folder;
    TrainConfig config = test::tiny_config(folder.path());
    test::quantize(config);
    run_until(config, 5, false);
    config.quantization.target_bit_width = 4;
    EXPECT_CONTAINS(error_of([&] { run(config, {.resume = true}); }), "nonlinear at 2 bits");
}

TEST(Training, BadInputIsOneClearErrorAndLeavesNoRun) {
    ScratchFolder folder;
    const TrainConfig good = test::tiny_config(folder.path());
    auto error = [&](auto change) {
        TrainConfig config = good;
        change(config);
        std::string message = error_of([&] { run(config); });
        EXPECT_FALSE(fs::exists(fs::path(config.job.dump_folder) / "config.toml")) << message;
        EXPECT_FALSE(fs::exists(config.checkpoint_folder())) << message;
        return message;
    };
    folder.write("empty.txt", " \n\n \n");
    EXPECT_CONTAINS(error([&](TrainConfig& c) { c.training.dataset = {(folder / "empty.txt").string()}; }), "corpus is empty");
    EXPECT_CONTAINS(error([&](TrainConfig& c) { c.training.dataset = {(folder / "missing.txt").string()}; }), "missing.txt");
    EXPECT_CONTAINS(error([&](TrainConfig& c) { c.model.tokenizer_path = folder.path().string(); }), "tokenizer");
    EXPECT_CONTAINS(error([&](TrainConfig& c) { c.model.vocab_size = 200; }), "has 300 ids");
    EXPECT_CONTAINS(error([&](TrainConfig& c) {
                        c.quantization.quantizer = "nonlinear";
                        c.quantization.block_dim_2 = 24;
                    }),
                    "block_dim_2 = 24");
    EXPECT_CONTAINS(error([&](TrainConfig& c) {
                        c.model.hidden_size = 1 << 15;
                        c.model.intermediate_size = 1 << 17;
                        c.model.num_attention_heads = 256;
                        c.model.num_hidden_layers = 100;
                    }),
                    "too little memory");
}

TEST(Training, PrecisionFollowsTheDevice) {
    Capabilities plain{.name = "plain", .kind = DeviceKind::discrete};
    EXPECT_EQ(choose_precision("auto", plain), Precision::f32);
    EXPECT_EQ(choose_precision("fp32", plain), Precision::f32);
    EXPECT_CONTAINS(error_of([&] { choose_precision("bf16", plain); }), "plain has no bf16 cooperative matrices");
    EXPECT_CONTAINS(error_of([&] { choose_precision("fp16", plain); }), "plain has no fp16 cooperative matrices");
}

TEST(Training, TheFirstFisherFitHasNoSecondMomentYet) {
    ScratchFolder folder;
    TrainConfig plain = test::tiny_config(folder.path()), fisher = plain;
    plain.training.steps = fisher.training.steps = 1;
    plain.quantization.quantizer = fisher.quantization.quantizer = "nonlinear";
    fisher.quantization.centroid_update_algorithm = "fischer_kmeans";
    fisher.job.dump_folder = (folder / "fisher").string();
    run(plain);
    run(fisher);
    test::expect_same_checkpoint(plain, fisher, 1);
}

}  // namespace
}  // namespace vkqat

// vkqat train and signals, with the built program.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "runtime/support/files.h"
#include "tests/tools/program.h"
#include "tests/trainer/tiny_run.h"

namespace vkqat::test {
namespace {

namespace fs = std::filesystem;

// A configuration file of the tiny run, and how to call the program with it.
std::vector<std::string> train_arguments(const ScratchFolder& folder, TrainConfig config) {
    return {"train", folder.write("run.toml", to_toml(config)).string()};
}

bool wait_until(const std::function<bool()>& reached) {
    for (int i = 0; i < 3000; i++) {
        if (reached()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
}

TEST(TrainSignals, InterruptFinishesTheStepWritesACheckpointAndNamesTheCommandToGoOn) {
    for (int signal : {SIGINT, SIGTERM}) {
        ScratchFolder folder;
        TrainConfig config = tiny_config(folder.path());
        config.training.steps = 100000;
        config.checkpoint.interval = 100000;
        std::vector<std::string> arguments = train_arguments(folder, config);
        arguments.push_back("--job.description=it's a test");
        RunningProgram program(arguments);
        ASSERT_TRUE(wait_until([&] { return program.out().find("step      3/") != std::string::npos; })) << program.err();
        program.kill(signal);
        const ProgramResult result = program.wait();
        EXPECT_EQ(result.exit_code, 0) << result.err;
        EXPECT_CONTAINS(result.err, "finishing the current step");
        const std::string command = "go on with: vkqat train " + arguments[1] + " '--job.description=it'\\''s a test'";
        EXPECT_CONTAINS(result.out, command);
        EXPECT_CONTAINS(result.out.substr(result.out.find(command)), " --resume\n");
        const std::vector<std::string> names = names_in(config.checkpoint_folder());
        ASSERT_EQ(names.size(), 1u);
        const Checkpoint checkpoint(config.checkpoint_folder() / names[0]);
        EXPECT_EQ(checkpoint.state().step, metrics(config).back()["step"].get<int64_t>());
        EXPECT_GE(checkpoint.state().step, 3);

        arguments.insert(arguments.end(), {"--resume", fmt::format("--training.steps={}", checkpoint.state().step + 1)});
        const ProgramResult resumed = run_on_device(arguments);
        EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
        EXPECT_CONTAINS(resumed.out, "done: 1 steps");
    }
}

TEST(TrainSignals, TheSecondSignalEndsAtOnce) {
    ScratchFolder folder;
    TrainConfig config = tiny_config(folder.path());
    config.training.local_batch_size = 32;
    config.training.global_batch_size = 32 * 2000;  // a step of minutes
    config.training.steps = 3;
    RunningProgram program(train_arguments(folder, config));
    ASSERT_TRUE(wait_until([&] { return program.out().find("memory  ") != std::string::npos; })) << program.err();
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // it catches signals from the first step on
    program.kill(SIGINT);
    ASSERT_TRUE(wait_until([&] { return program.err().find("ends the program at once") != std::string::npos; }));
    program.kill(SIGTERM);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(program.wait().exit_code, -1);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    EXPECT_FALSE(fs::exists(config.checkpoint_folder()));
}

}  // namespace
}  // namespace vkqat::test

// kill -9 of a training process, resumed in another one.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/trainer/tiny_run.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

TrainConfig child_config(const fs::path& folder, const std::string& run) {
    TrainConfig config = test::tiny_config(folder);
    test::quantize(config);
    config.training.steps = 60;
    config.checkpoint.interval = 3;
    config.job.dump_folder = (folder / run).string();
    return config;
}

// What the child process does: the run that the environment names, resumed if it has begun.
TEST(TrainingKilled, DISABLED_Child) {
    const char* folder = std::getenv("VKQAT_TEST_CHILD_FOLDER");
    const char* name = std::getenv("VKQAT_TEST_CHILD_RUN");
    ASSERT_TRUE(folder && name);
    TrainConfig config = child_config(folder, name);
    test::run(config, {.resume = fs::exists(fs::path(config.job.dump_folder) / "config.toml")});
}

// This program again, started as it was itself (perhaps by a loader with options of its own), to do the test above.
pid_t start_child(const fs::path& folder, const std::string& run) {
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    std::vector<std::string> arguments;
    for (std::string word; std::getline(file, word, '\0') && !word.starts_with("--gtest");) arguments.push_back(word);
    arguments.insert(arguments.end(), {"--gtest_also_run_disabled_tests", "--gtest_filter=TrainingKilled.DISABLED_Child"});
    std::vector<char*> pointers;
    for (std::string& word : arguments) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    ::setenv("VKQAT_TEST_CHILD_FOLDER", folder.c_str(), 1);
    ::setenv("VKQAT_TEST_CHILD_RUN", run.c_str(), 1);
    std::string log = (folder / (run + ".log")).string(), program = fs::read_symlink("/proc/self/exe").string();
    pid_t child = ::fork();
    if (child == 0) {
        if (!std::freopen(log.c_str(), "a", stdout) || ::dup2(1, 2) < 0) ::_exit(126);
        ::execv(program.c_str(), pointers.data());
        ::_exit(127);
    }
    return child;
}

// Its exit code, or minus the signal that ended it.
int wait_for(pid_t child) {
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(TrainingKilled, GoesOnWithTheSameBitsWhereverItWasKilled) {
    test::ScratchFolder folder;
    TrainConfig whole = child_config(folder.path(), "whole"), killed = child_config(folder.path(), "killed");
    ASSERT_EQ(wait_for(start_child(folder.path(), "whole")), 0) << read_text_file(folder / "whole.log");

    auto lines = [&] {
        std::ifstream file(fs::path(killed.job.dump_folder) / "metrics.jsonl");
        return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
    };
    std::mt19937 random(std::random_device{}());
    int kills = 0;
    for (int round = 0; round < 2; round++) {
        const pid_t child = start_child(folder.path(), "killed");
        // Some steps after it has begun to train, and at any moment of a step.
        const auto goal = lines() + 5 + std::uniform_int_distribution<int>(0, 10)(random);
        for (int i = 0; i < 6000 && lines() < goal && ::waitpid(child, nullptr, WNOHANG | WNOWAIT) == 0; i++)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        std::this_thread::sleep_for(std::chrono::microseconds(std::uniform_int_distribution<int>(0, 20000)(random)));
        ::kill(child, SIGKILL);
        const int end = wait_for(child);
        ASSERT_TRUE(end == -SIGKILL || end == 0) << end << "\n" << read_text_file(folder / "killed.log");
        kills += end == -SIGKILL;
    }
    EXPECT_GT(kills, 0);
    ASSERT_EQ(wait_for(start_child(folder.path(), "killed")), 0) << read_text_file(folder / "killed.log");
    EXPECT_EQ(test::timeless_metrics(killed), test::timeless_metrics(whole));
    test::expect_same_checkpoint(whole, killed, 60);
    EXPECT_EQ(test::names_in(killed.checkpoint_folder()), test::names_in(whole.checkpoint_folder()));
}

}  // namespace
}  // namespace vkqat

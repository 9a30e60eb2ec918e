// kill -9 of a training process, resumed in another one. VKQAT_KILLS=20 kills so often; otherwise a few times.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "tests/trainer/tiny_run.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

TrainConfig child_config(const fs::path& folder, const std::string& run) {
    TrainConfig config = test::tiny_config(folder);
    test::quantize(config);
    const char* kills = std::getenv("VKQAT_KILLS");
    config.training.steps = 60 + 10 * (kills ? std::atoi(kills) : 0);
    config.checkpoint.interval = 3;
    config.metrics.enable_tensorboard = true;
    config.training.datasets = {{config.training.dataset, 2}, {{(folder / "valid.txt").string()}, 1}};
    config.training.dataset.clear();
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

bool is_running(pid_t child) {
    siginfo_t ended{};
    return ::waitid(P_PID, id_t(child), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == 0;
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
    const char* wanted = std::getenv("VKQAT_KILLS");
    const int rounds = wanted ? std::atoi(wanted) : 3;
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937 random(seed);
    auto uniform = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    int kills = 0, in_training = 0;
    for (int round = 0; round < rounds; round++) {
        const pid_t child = start_child(folder.path(), "killed");
        // Every third time at any moment since the program began, otherwise some steps after it has begun to train, and at any
        // moment of a step, which may be one at which a checkpoint is copied, written, renamed, or an old one removed.
        if (round % 3 == 2) {
            std::this_thread::sleep_for(std::chrono::milliseconds(uniform(0, 1500)));
        } else {
            const auto goal = lines() + uniform(3, 12);
            for (int i = 0; i < 12000 && lines() < goal && is_running(child); i++)
                std::this_thread::sleep_for(std::chrono::milliseconds(5));
            std::this_thread::sleep_for(std::chrono::microseconds(uniform(0, 30000)));
        }
        const auto before = lines();
        ::kill(child, SIGKILL);
        const int end = wait_for(child);
        ASSERT_TRUE(end == -SIGKILL || end == 0) << end << "\n" << read_text_file(folder / "killed.log");
        kills += end == -SIGKILL;
        in_training += end == -SIGKILL && before > 0;
        // Whatever was being written, a checkpoint is whole as soon as there has been one.
        if (before >= 3 * killed.checkpoint.interval) {
            EXPECT_TRUE(latest_checkpoint(killed.checkpoint_folder(), [](const std::string& text) { ADD_FAILURE() << text; }));
        }
    }
    EXPECT_GT(in_training, 0);
    ASSERT_EQ(wait_for(start_child(folder.path(), "killed")), 0) << read_text_file(folder / "killed.log");
    EXPECT_EQ(test::timeless_metrics(killed), test::timeless_metrics(whole));
    test::expect_same_checkpoint(whole, killed, whole.training.steps);
    EXPECT_EQ(test::names_in(killed.checkpoint_folder()), test::names_in(whole.checkpoint_folder()));
    std::printf("%d kills (%d in a training), %d steps in the end, the same bits\n", kills, in_training,
                int(whole.training.steps));
}

}  // namespace
}  // namespace vkqat

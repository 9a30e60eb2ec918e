// Training by several processes through mpirun, against one process.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "tests/trainer/tiny_run.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

// Steps of 8 windows: 2 ranks with 2 micro-steps of 2 windows, or one with 4. Buckets of 16384 gradients, so there are several.
TrainConfig config_of(const fs::path& folder, const std::string& run) {
    TrainConfig config = test::tiny_config(folder);
    test::quantize(config);
    config.training.local_batch_size = 2;
    config.training.global_batch_size = 8;
    config.distributed.bucket_mb = 0.07;
    config.validation.enable = true;
    config.validation.dataset = {(folder / "valid.txt").string()};
    config.validation.freq = 6;
    config.validation.steps = 3;
    config.checkpoint.async = false;  // a killed run has written what it had begun
    config.job.dump_folder = (folder / run).string();
    if (run.ends_with("mpi")) config.distributed.exchange = "mpi";
    config.distributed.zero1 = run.starts_with("zero");
    return config;
}

const char* text(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

bool has_mpirun() { return std::system("command -v mpirun >/dev/null 2>&1") == 0; }

class TrainingRanks : public testing::Test {
protected:
    void SetUp() override {
        if (!has_mpirun()) GTEST_SKIP() << "there is no mpirun here (Debian: openmpi-bin)";
    }
    std::string log(const std::string& run) const { return read_text_file(folder_ / (run + ".log")); }
    test::ScratchFolder folder_;
};

// What each rank does: the run that the environment names, until a step, resumed if it has begun.
TEST_F(TrainingRanks, DISABLED_Child) {
    TrainConfig config = config_of(text("VKQAT_TEST_CHILD_FOLDER"), text("VKQAT_TEST_CHILD_RUN"));
    const int64_t until = std::atoll(text("VKQAT_TEST_CHILD_UNTIL"));
    const bool dies = std::string_view(text("VKQAT_TEST_CHILD_DIES")) == "1";
    auto ranks = connect_ranks();
    int64_t done = 0;
    TrainOptions options{.resume = fs::exists(fs::path(config.job.dump_folder) / "config.toml"), .ranks = ranks.get()};
    options.before_step = [&](int64_t step, ParameterStore&) {
        if (dies && step == 7 && ranks->rank() == 1) ::kill(::getpid(), SIGKILL);
        done = step;
    };
    options.stop = [&] { return ranks->rank() == 1 && done >= until; };  // one is asked, all stop
    if (ranks->size() == 1) options.stop = [&] { return done >= until; };
    try {
        test::run(config, options);
        ranks->leave();
    } catch (const Error& e) {
        std::printf("rank %d: %s\n", ranks->rank(), e.what());
        std::fflush(stdout);
        ::_exit(1);
    }
}

// This program again under mpirun (or alone), started as it was itself, to do the test above. Returns the exit code.
int run_ranks(int count, const fs::path& folder, const std::string& run, int64_t until = 1000, bool dies = false) {
    std::vector<std::string> arguments;
    // One core will do for two ranks, also for root and in a container that forbids what shared-memory transports like to do.
    if (count > 1)
        arguments = {"mpirun",
                     "-n",
                     std::to_string(count),
                     "--oversubscribe",
                     "--allow-run-as-root",
                     "--bind-to",
                     "none",
                     "--mca",
                     "btl_vader_single_copy_mechanism",
                     "none",
                     "--mca",
                     "plm",
                     "isolated"};
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    for (std::string word; std::getline(file, word, '\0') && !word.starts_with("--gtest");) arguments.push_back(word);
    arguments.insert(arguments.end(), {"--gtest_also_run_disabled_tests", "--gtest_filter=TrainingRanks.DISABLED_Child"});
    std::vector<char*> pointers;
    for (std::string& word : arguments) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    // Open MPI leaves memory behind in modules that it has unloaded by the end, which no suppression can name.
    if (const char* options = std::getenv("ASAN_OPTIONS"); options && count > 1)
        ::setenv("ASAN_OPTIONS", (std::string(options) + ":detect_leaks=0").c_str(), 1);
    ::setenv("VKQAT_TEST_CHILD_FOLDER", folder.c_str(), 1);
    ::setenv("VKQAT_TEST_CHILD_RUN", run.c_str(), 1);
    ::setenv("VKQAT_TEST_CHILD_UNTIL", std::to_string(until).c_str(), 1);
    ::setenv("VKQAT_TEST_CHILD_DIES", dies ? "1" : "0", 1);
    const std::string log = (folder / (run + ".log")).string();
    const pid_t child = ::fork();
    if (child == 0) {
        if (!std::freopen(log.c_str(), "a", stdout) || ::dup2(1, 2) < 0) ::_exit(126);
        ::execvp(pointers[0], pointers.data());
        ::_exit(127);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// What must be equal to the last bit: everything but times and memory.
std::vector<nlohmann::json> learned(const TrainConfig& config) {
    auto lines = test::timeless_metrics(config);
    for (nlohmann::json& line : lines) line.erase("memory_bytes");
    return lines;
}

// Sums in another order differ by rounding, which the steps before have grown.
void expect_same_losses(const TrainConfig& a, const TrainConfig& b) {
    const auto lines_a = test::timeless_metrics(a), lines_b = test::timeless_metrics(b);
    ASSERT_EQ(lines_a.size(), lines_b.size());
    ASSERT_GE(lines_a.size(), 12u);
    for (size_t i = 0; i < lines_a.size(); i++)
        for (const auto& [key, value] : lines_a[i].items()) {
            SCOPED_TRACE(fmt::format("line {}: {}", i, key));
            ASSERT_TRUE(lines_b[i].contains(key));
            if (key == "memory_bytes") continue;
            if (value.is_number_float()) {
                EXPECT_NEAR(value.get<double>(), lines_b[i][key].get<double>(), 1e-4 * std::abs(value.get<double>()));
            } else {
                EXPECT_EQ(value, lines_b[i][key]);
            }
        }
}

TEST_F(TrainingRanks, TwoGiveTheLossesOfOneAlsoAfterAResumeWithAnotherNumber) {
    const TrainConfig one = config_of(folder_.path(), "one"), two = config_of(folder_.path(), "two");
    ASSERT_EQ(run_ranks(1, folder_.path(), "one"), 0) << log("one");
    ASSERT_EQ(run_ranks(2, folder_.path(), "two"), 0) << log("two");
    expect_same_losses(one, two);

    const TrainConfig both = config_of(folder_.path(), "mpi");
    ASSERT_EQ(run_ranks(2, folder_.path(), "mpi", 5), 0) << log("mpi");
    ASSERT_EQ(run_ranks(1, folder_.path(), "mpi", 8), 0) << log("mpi");
    ASSERT_EQ(run_ranks(2, folder_.path(), "mpi"), 0) << log("mpi");
    expect_same_losses(one, both);
}

// The norm of the gradient is summed from the same parts, so all has the same bits.
TEST_F(TrainingRanks, SharedMomentsChangeNothingAndAreWholeInCheckpoints) {
    ASSERT_EQ(run_ranks(2, folder_.path(), "two"), 0) << log("two");
    for (const char* run : {"zero", "zero-mpi"}) {
        ASSERT_EQ(run_ranks(2, folder_.path(), run, 5), 0) << log(run);
        ASSERT_EQ(run_ranks(2, folder_.path(), run), 0) << log(run);
        EXPECT_EQ(learned(config_of(folder_.path(), run)), learned(config_of(folder_.path(), "two")));
        test::expect_same_checkpoint(config_of(folder_.path(), "two"), config_of(folder_.path(), run), 12);
    }
}

TEST_F(TrainingRanks, TheEndOfOneEndsTheOthersAndLeavesACheckpoint) {
    const TrainConfig config = config_of(folder_.path(), "run");
    const auto start = std::chrono::steady_clock::now();
    EXPECT_NE(run_ranks(2, folder_.path(), "run", 1000, true), 0);
    // A run of all steps takes a few seconds on a busy machine; a rank that waits for another one would do so for ever.
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 120);
    EXPECT_NE(log("run").find("rank 1"), std::string::npos) << log("run");
    EXPECT_EQ(test::names_in(config.checkpoint_folder()), std::vector<std::string>{"step-00000004"});
    ASSERT_EQ(run_ranks(1, folder_.path(), "run"), 0) << log("run");
    EXPECT_EQ(Checkpoint(config.checkpoint_folder() / "step-00000012").state().step, 12);
}

}  // namespace
}  // namespace vkqat

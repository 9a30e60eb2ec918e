#include "trainer/checkpoint_writer.h"

#include <signal.h>
#include <unistd.h>

#include <exception>
#include <new>

#include "runtime/support/clock.h"
#include "runtime/support/error.h"
#include "trainer/readable.h"

namespace vkqat {
namespace {

// Host memory that can be taken without swapping, as Linux estimates it; nothing where it does not say.
std::optional<uint64_t> available_memory() {
    std::FILE* file = std::fopen("/proc/meminfo", "r");
    if (!file) return std::nullopt;
    std::optional<uint64_t> bytes;
    char line[256];
    unsigned long long kib = 0;
    while (!bytes && std::fgets(line, sizeof line, file))
        if (std::sscanf(line, "MemAvailable: %llu kB", &kib) == 1) bytes = uint64_t(kib) << 10;
    std::fclose(file);
    return bytes;
}

// Runs `work` on a new thread that takes no signals: they are the main thread's.
std::thread start_thread(std::function<void()> work) {
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread thread(std::move(work));
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return thread;
}

}  // namespace

CheckpointWriter::CheckpointWriter(const RunSettings& settings, const ParameterStore& parameters, const TrainingStep& training,
                                   bool asynchronous, std::function<void()> before, const Say& say)
    : settings_(settings), parameters_(parameters), training_(training), asynchronous_(asynchronous), before_(std::move(before)) {
    if (!asynchronous_) return;
    const uint64_t needed = CheckpointSnapshot::bytes(parameters);
    const std::optional<uint64_t> available = available_memory();
    if (available && needed > *available / 10 * 9) {
        asynchronous_ = false;
        if (say)
            say(fmt::format("checkpoints while the training waits: a copy needs {}B of host memory, {}B are free",
                            metric(double(needed)), metric(double(*available))));
        return;
    }
    // The system gives memory out page by page as it is first written: now, while the training begins.
    thread_ = start_thread([this] {
        try {
            snapshot_.reserve(parameters_);
        } catch (const std::bad_alloc&) {
            // begin() tries again, and its error is the checkpoint's.
        }
        ended_ = true;
    });
}

CheckpointWriter::~CheckpointWriter() {
    if (thread_.joinable()) thread_.join();
}

template <class Write>
void CheckpointWriter::write(const Write& write_files) {
    const Clock::time_point start = Clock::now();
    try {
        if (before_) before_();
        result_->path = write_files();
    } catch (const std::exception& e) {
        result_->error = e.what();
    }
    result_->seconds = seconds_since(start);
}

void CheckpointWriter::begin(const TrainState& state) {
    const Clock::time_point start = Clock::now();
    if (thread_.joinable()) thread_.join();
    result_ = {.step = state.step};
    const std::filesystem::path folder = settings_.config.checkpoint_folder();
    if (!asynchronous_) {
        write([&] { return write_checkpoint(folder, settings_, state, parameters_, training_); });
        result_->stall_seconds = result_->seconds;
        ended_ = true;
        return;
    }
    try {
        snapshot_.take(state, parameters_, training_);
    } catch (const std::bad_alloc&) {
        result_->error = "too little host memory for a copy of the weights and moments; set checkpoint.async = false";
        ended_ = true;
        return;
    }
    result_->stall_seconds = seconds_since(start);
    ended_ = false;
    thread_ = start_thread([this, folder] {
        write([&] { return write_checkpoint(folder, settings_, snapshot_); });
        ended_ = true;
    });
}

std::optional<CheckpointResult> CheckpointWriter::poll() { return ended_ ? wait() : std::nullopt; }

std::optional<CheckpointResult> CheckpointWriter::wait() {
    if (thread_.joinable()) thread_.join();
    return std::exchange(result_, std::nullopt);
}

}  // namespace vkqat

// A model on a device with a thread of its own: loading, answering, measuring. The interface leaves work in its queue and looks
// at its state; it never waits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "app/core/conversation.h"
#include "runtime/graph/executable.h"
#include "runtime/model/memory.h"
#include "runtime/support/dtype.h"

namespace vkqat {

struct LoadRequest {
    std::filesystem::path model;
    std::string device;          // as --device
    int64_t context = 0;         // 0: what the model allows, at most 4096
    std::optional<DType> cache;  // nothing: what suits the device
};

// An answer in the making: the engine's thread writes, the interface reads.
class Answer {
public:
    struct State {
        std::string text;  // so far; whole characters
        AnswerStats stats;
        double prompt_progress = 0;  // 0 .. 1
        size_t dropped = 0;          // messages that the context had no room for
        bool done = false, failed = false;
    };
    State state() const {
        std::lock_guard lock(mutex_);
        return state_;
    }
    void stop() { stop_ = true; }
    bool stopped() const { return stop_; }

private:
    friend class Engine;
    mutable std::mutex mutex_;
    State state_;
    std::atomic<bool> stop_ = false;
};

struct AnswerRequest {
    std::vector<ChatMessage> messages;
    SamplingChoice sampling;
    int64_t max_tokens = 1024;
    bool continue_last = false;  // the last message is an answer to go on with
};

struct ModelProfile {
    std::string model, device;
    std::vector<ProfileRow> decode, prefill;
    int64_t prefill_tokens = 0, context = 0;
    int64_t position = 0;  // of the decoded token
    bool live = false;     // taken while an answer was made: no prefill
};

enum class EngineStatus { empty, loading, ready, failed };

struct EngineState {
    EngineStatus status = EngineStatus::empty;
    std::filesystem::path model;
    std::string name, device, message;  // message: what it is doing, or what failed
    bool cpu = false;                   // the device is a CPU
    double progress = 0;                // of loading
    int64_t context = 0;
    MemoryNeed memory;  // of what is loaded
    bool made_for_chat = true;
    bool busy = false;   // answering or measuring
    size_t waiting = 0;  // requests in the queue
    double load_seconds = 0;
};

class Engine {
public:
    // `changed` is called from the engine's thread whenever there is something new to see.
    explicit Engine(std::function<void()> changed);
    ~Engine();  // stops what runs
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    EngineState state() const;
    void load(LoadRequest request);  // in place of what is loaded or being loaded
    void cancel_load();
    void unload();
    std::shared_ptr<Answer> answer(AnswerRequest request);
    // Times every node of a decoded token and of a piece of a prompt; an error is said in the state's message.
    void profile();
    std::shared_ptr<const ModelProfile> last_profile() const;
    // While an answer is made, one of its tokens is measured in each second; the text does not change.
    void set_live(bool on) { live_ = on; }

private:
    struct Loaded;
    void run();
    void post(std::function<void()> work);
    void do_load(const LoadRequest& request, uint64_t number);
    void do_answer(const AnswerRequest& request, Answer& answer);
    void do_profile();
    void profile_token();
    void drop(const std::string& why, EngineStatus status);
    template <class Change>
    void update(Change&& change);

    std::function<void()> changed_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> queue_;
    EngineState state_;
    std::shared_ptr<const ModelProfile> profile_;
    std::atomic<uint64_t> load_number_ = 0;  // grows with every request, cancel and unload: an older load gives up
    std::atomic<uint64_t> newest_load_ = 0;  // the number of the newest request to load
    std::atomic<bool> end_ = false, live_ = false;
    std::shared_ptr<Answer> current_;
    std::unique_ptr<Loaded> loaded_;  // of the thread only
    std::thread thread_;
};

}  // namespace vkqat

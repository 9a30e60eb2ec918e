// Something that takes too long for the interface's thread: it is asked for, made on a thread, and taken when it is there.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace vkqat {

template <class Result>
class Background {
public:
    // `ready` is called from the thread when there is something to take.
    explicit Background(std::function<void()> ready) : ready_(std::move(ready)) {}
    ~Background() {
        {
            std::lock_guard lock(mutex_);
            end_ = true;
        }
        wake_.notify_all();
        if (thread_.joinable()) thread_.join();
    }
    Background(const Background&) = delete;
    Background& operator=(const Background&) = delete;

    // What was asked for before and has not begun is forgotten; what is being made is finished and thrown away.
    void ask(std::function<Result()> work) {
        {
            std::lock_guard lock(mutex_);
            next_ = std::move(work);
            result_.reset();
            error_.clear();
        }
        if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
        wake_.notify_all();
    }
    // The newest result, once.
    std::optional<Result> take() {
        std::lock_guard lock(mutex_);
        return std::exchange(result_, std::nullopt);
    }
    // Why there is none.
    std::string error() const {
        std::lock_guard lock(mutex_);
        return error_;
    }

private:
    void run() {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [&] { return end_ || next_; });
            if (end_) return;
            const auto work = std::exchange(next_, nullptr);
            lock.unlock();
            std::optional<Result> result;
            std::string error;
            try {
                result = work();
            } catch (const std::exception& e) {
                error = e.what();
            }
            lock.lock();
            if (next_) continue;
            result_ = std::move(result);
            error_ = std::move(error);
            lock.unlock();
            ready_();
            lock.lock();
        }
    }

    std::function<void()> ready_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::function<Result()> next_;
    std::optional<Result> result_;
    std::string error_;
    bool end_ = false;
    std::thread thread_;
};

}  // namespace vkqat

// Where conversations are kept: a folder with a file for each, written by a thread of its own. While an answer is made, its text
// is appended to a journal beside the file, so that a program that is killed has lost nothing of it.
#pragma once

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "app/core/conversation.h"

namespace vkqat {

class Store {
public:
    // What was found in the folder.
    struct Found {
        std::vector<Conversation> conversations;
        std::vector<std::string> damaged;  // a sentence for each file that was set aside as NAME.damaged
    };

    explicit Store(std::filesystem::path folder);  // makes the folder
    ~Store();                                      // writes what is left
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;

    // Reads the folder: journals are brought into their conversations, damaged files are set aside.
    Found load();
    // All of these only leave a note for the thread.
    void save(const Conversation& conversation);
    void append(const Conversation& conversation, int message, size_t at, std::string text);  // `text` belongs at byte `at`
    void remove(const std::string& id);                                                       // into the folder `deleted`
    void restore(const std::string& id);                                                      // out of it again
    void write(std::filesystem::path file, std::string text);
    void run_later(std::function<void()> work);  // other work on that thread; an error is told as those of files are
    void wait();                                 // until all is on disk
    // The first thing that could not be written since the last call, or nothing.
    std::string take_error();
    const std::filesystem::path& folder() const { return folder_; }

private:
    void post(std::string key, std::function<void()> work);
    void run();
    std::filesystem::path file(const std::string& id) const { return folder_ / (id + ".json"); }
    std::filesystem::path journal(const std::string& id) const { return folder_ / (id + ".journal"); }

    struct Work {
        std::string key;  // a later one with the same key takes its place; empty: none does
        std::function<void()> work;
    };
    std::filesystem::path folder_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Work> queue_;
    bool busy_ = false, end_ = false;
    std::string error_;
    std::thread thread_;
};

}  // namespace vkqat

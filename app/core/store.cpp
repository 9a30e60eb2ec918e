#include "app/core/store.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/support/error.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace fs = std::filesystem;
namespace {

constexpr size_t most_bytes = size_t(256) << 20;  // of a conversation's file

// Brings the lines of a journal into a conversation. A line that was cut off, and what follows it, is left out.
void apply_journal(Conversation& c, const std::string& text) {
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = text.find('\n', begin);
        if (end == text.npos) return;
        const auto line = nlohmann::json::parse(text.begin() + ptrdiff_t(begin), text.begin() + ptrdiff_t(end), nullptr, false);
        begin = end + 1;
        if (!line.is_object() || !line.contains("message") || !line.contains("at") || !line.contains("text")) return;
        if (!line["message"].is_number_integer() || !line["at"].is_number_unsigned() || !line["text"].is_string()) return;
        const int64_t message = line["message"].get<int64_t>();
        const size_t at = line["at"].get<size_t>();
        if (message < 0 || message >= int64_t(c.messages.size())) return;
        std::string& content = c.messages[size_t(message)].content;
        if (at > content.size()) return;
        content.resize(at);
        content += line["text"].get<std::string>();
        c.messages[size_t(message)].stats.end = "stopped";
    }
}

void append_to(const fs::path& file, const std::string& text) {
    const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) fail("{}: cannot be written: {}", file.string(), std::strerror(errno));
    const ssize_t written = ::write(fd, text.data(), text.size());
    const int error = errno;
    ::close(fd);
    if (written != ssize_t(text.size())) fail("{}: cannot be written: {}", file.string(), std::strerror(error));
}

}  // namespace

Store::Store(fs::path folder) : folder_(std::move(folder)) {
    std::error_code error;
    fs::create_directories(folder_ / "deleted", error);
    if (error) fail("{}: the folder cannot be made: {}", folder_.string(), error.message());
    thread_ = std::thread([this] { run(); });
}

Store::~Store() {
    {
        std::lock_guard lock(mutex_);
        end_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

Store::Found Store::load() {
    Found found;
    std::vector<fs::path> files;
    std::error_code error;
    for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error)) {
        if (at->path().extension() == ".json") files.push_back(at->path());
        // What a program that was killed has half written: "NAME.json.tmpPID".
        const std::string ending = at->path().extension().string();
        std::error_code ignored;
        if (ending.starts_with(".tmp") && ::kill(pid_t(std::atol(ending.c_str() + 4)), 0) != 0 && errno == ESRCH)
            fs::remove(at->path(), ignored);
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& path : files) {
        const std::string id = path.stem().string();
        try {
            Conversation c = conversation_from_json(read_text_file(path, most_bytes), path.string());
            c.id = id;
            if (fs::exists(journal(id), error)) {
                apply_journal(c, read_text_file(journal(id), most_bytes));
                write_text_file(path, to_json(c));
                fs::remove(journal(id), error);
            }
            found.conversations.push_back(std::move(c));
        } catch (const std::exception& e) {
            fs::path aside = path;
            aside += ".damaged";
            for (int i = 2; fs::exists(aside, error); i++) aside = path.string() + fmt::format(".damaged{}", i);
            fs::rename(path, aside, error);
            found.damaged.push_back(fmt::format("{} (set aside as {})", e.what(), aside.filename().string()));
        }
    }
    return found;
}

void Store::save(const Conversation& conversation) {
    auto copy = std::make_shared<Conversation>(conversation);
    post("save " + conversation.id, [this, copy] {
        write_text_file(file(copy->id), to_json(*copy));
        std::error_code error;
        fs::remove(journal(copy->id), error);
    });
}

void Store::append(const Conversation& conversation, int message, size_t at, std::string text) {
    post("", [this, id = conversation.id, message, at, text = std::move(text)] {
        const nlohmann::ordered_json line{{"message", message}, {"at", at}, {"text", text}};
        append_to(journal(id), line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    });
}

void Store::remove(const std::string& id) {
    post("", [this, id] {
        if (fs::exists(file(id))) fs::rename(file(id), folder_ / "deleted" / (id + ".json"));
    });
}

void Store::restore(const std::string& id) {
    post("", [this, id] {
        if (fs::exists(folder_ / "deleted" / (id + ".json"))) fs::rename(folder_ / "deleted" / (id + ".json"), file(id));
    });
}

void Store::write(fs::path to, std::string text) {
    std::string key = "write " + to.string();
    post(std::move(key), [to = std::move(to), text = std::move(text)] {
        std::error_code error;
        fs::create_directories(to.parent_path(), error);
        write_text_file(to, text);
    });
}

void Store::run_later(std::function<void()> work) { post("", std::move(work)); }

void Store::post(std::string key, std::function<void()> work) {
    {
        std::lock_guard lock(mutex_);
        // Only the newest of several in a row is worth doing.
        if (!key.empty() && !queue_.empty() && queue_.back().key == key) queue_.pop_back();
        queue_.push_back({std::move(key), std::move(work)});
    }
    changed_.notify_all();
}

void Store::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait(lock, [&] { return end_ || !queue_.empty(); });
        if (queue_.empty()) return;
        Work work = std::move(queue_.front());
        queue_.pop_front();
        busy_ = true;
        lock.unlock();
        std::string error;
        try {
            work.work();
        } catch (const std::exception& e) {
            error = e.what();
        }
        lock.lock();
        busy_ = false;
        if (!error.empty() && error_.empty()) error_ = error;
        changed_.notify_all();
    }
}

void Store::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
}

std::string Store::take_error() {
    std::lock_guard lock(mutex_);
    return std::exchange(error_, {});
}

}  // namespace vkqat

// The models that are there: what lies in the library's folders, what each is, and what memory it would take.
#pragma once

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/model/memory.h"

namespace vkqat {

struct ModelEntry {
    std::filesystem::path path;
    std::string name, architecture, method;  // "Llama, 5 layers of 64"; "k-means", "bf16", "GGUF"
    double bits = 0;                         // of a weight in the linear layers
    uint64_t bytes = 0;                      // on disk
    int64_t parameters = 0, max_context = 0;
    std::string error;  // why it cannot be used; the rest is then empty
};

// What a folder holds: itself, if it is a model, else the models and .gguf files in it and in its folders, two levels deep. It
// gives up when `stop` becomes true, with what it has.
std::vector<ModelEntry> find_models(const std::filesystem::path& folder, const std::atomic<bool>* stop = nullptr);
ModelEntry describe_model(const std::filesystem::path& path);

enum class Fit { unknown, good, tight, no };  // less than 80 %, 80 % to 90 %, 90 % and more of what is free
Fit fit(uint64_t need, uint64_t free);

struct MemoryEstimate {
    MemoryNeed need;
    uint64_t free = 0;
    int64_t context = 0;
    std::string error;
};

struct DeviceEntry {
    std::string name, kind;
    uint64_t memory = 0;
};

// Scans and estimates on a thread of its own.
class Library {
public:
    explicit Library(std::function<void()> changed);
    ~Library();
    Library(const Library&) = delete;
    Library& operator=(const Library&) = delete;

    void set_folders(std::vector<std::filesystem::path> folders);  // and scans them
    void scan();
    void cancel_scan();  // what was found so far stays
    bool scanning() const;
    std::vector<ModelEntry> models() const;
    std::vector<DeviceEntry> devices() const;  // best first; empty until the first scan is done
    std::string device_error() const;
    // Of a model with a context (0: at most 4096) on a device; nothing until it is known, which then is told by `changed`.
    std::optional<MemoryEstimate> estimate(const std::filesystem::path& model, int64_t context, const std::string& device);

private:
    struct Key {
        std::string model, device;
        int64_t context;
        auto operator<=>(const Key&) const = default;
    };
    void run();
    void do_scan();
    MemoryEstimate do_estimate(const Key& key);

    struct Gpu;
    std::function<void()> changed_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::filesystem::path> folders_;
    std::vector<ModelEntry> models_;
    std::vector<DeviceEntry> devices_;
    std::string device_error_;
    std::map<Key, std::optional<MemoryEstimate>> estimates_;
    std::vector<Key> wanted_;
    bool scan_ = false, scanning_ = false, end_ = false;
    std::atomic<bool> stop_scan_ = false;
    std::unique_ptr<Gpu> gpu_;  // of the thread only
    std::thread thread_;
};

}  // namespace vkqat

#include "app/core/library.h"

#include <algorithm>
#include <set>

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/gguf.h"
#include "runtime/formats/json_text.h"
#include "runtime/model/model_directory.h"
#include "runtime/model/session.h"
#include "runtime/vulkan/device.h"

namespace vkqat {
namespace fs = std::filesystem;
namespace {

bool is_model(const fs::path& path) {
    return is_gguf(path) || (has_file(path / "config.json") &&
                             (has_file(path / "model.safetensors") || has_file(path / "model.safetensors.index.json")));
}

uint64_t bytes_of(const fs::path& path) {
    std::error_code error;
    if (fs::is_regular_file(path, error)) return fs::file_size(path, error);
    uint64_t total = 0;
    for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error))
        if (at->path().extension() == ".safetensors") total += at->file_size(error);
    return total;
}

void search_in(const fs::path& folder, int depth, std::vector<ModelEntry>& found, const std::atomic<bool>* stop) {
    if (stop && *stop) return;
    if (is_model(folder)) {
        found.push_back(describe_model(folder));
        return;
    }
    std::error_code error;
    if (!fs::is_directory(folder, error)) return;
    std::vector<fs::path> inside;
    for (fs::directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end; !error && at != end;
         at.increment(error)) {
        if (stop && *stop) return;
        if (at->path().filename().string().starts_with(".")) continue;
        if (at->is_directory(error) ? depth > 0 : at->path().extension() == ".gguf") inside.push_back(at->path());
    }
    std::sort(inside.begin(), inside.end());
    for (const fs::path& path : inside) search_in(path, depth - 1, found, stop);
}

}  // namespace

std::vector<ModelEntry> find_models(const fs::path& folder, const std::atomic<bool>* stop) {
    std::vector<ModelEntry> found;
    search_in(folder, 2, found, stop);
    return found;
}

ModelEntry describe_model(const fs::path& path) {
    ModelEntry entry;
    entry.path = path;
    entry.name = model_name(path);
    entry.bytes = bytes_of(path);
    try {
        const LlamaConfig config = read_llama_config(path);
        entry.architecture = fmt::format("Llama, {} layers of {}", config.layers, config.hidden_size);
        entry.parameters = config.parameters();
        entry.max_context = config.max_position_embeddings;
        entry.method = is_gguf(path) ? "GGUF" : config.torch_dtype;
        entry.bits = config.torch_dtype == "float32" ? 32 : 16;
        if (is_gguf(path)) entry.bits = 8.0 * double(entry.bytes) / double(std::max<int64_t>(1, entry.parameters));
        if (!is_gguf(path)) {
            if (const auto quantization = read_quantization_config(path)) {
                entry.method = quantization->num_centroids > 0 || quantization->quant_method == "nonlinear"
                                   ? "k-means"
                                   : quantization->quant_method;
                if (quantization->bits > 0) entry.bits = quantization->bits;
            }
        }
    } catch (const std::exception& e) {
        entry.error = e.what();
    }
    return entry;
}

Fit fit(uint64_t need, uint64_t free) {
    if (free == 0 || need == 0) return Fit::unknown;
    const double share = double(need) / double(free);
    return share >= 0.9 ? Fit::no : share >= 0.8 ? Fit::tight : Fit::good;
}

struct Library::Gpu {
    explicit Gpu(std::string which) : selector(std::move(which)), device(instance, DeviceOptions{.selector = selector}) {}
    std::string selector;
    Instance instance;
    Device device;
};

Library::Library(std::function<void()> changed) : changed_(std::move(changed)) {
    thread_ = std::thread([this] { run(); });
}

Library::~Library() {
    {
        std::lock_guard lock(mutex_);
        end_ = stop_scan_ = true;
    }
    wake_.notify_all();
    thread_.join();
}

void Library::set_folders(std::vector<fs::path> folders) {
    {
        std::lock_guard lock(mutex_);
        folders_ = std::move(folders);
    }
    scan();
}

void Library::scan() {
    {
        std::lock_guard lock(mutex_);
        scan_ = scanning_ = true;
        stop_scan_ = false;
    }
    wake_.notify_all();
}

void Library::cancel_scan() { stop_scan_ = true; }

bool Library::scanning() const {
    std::lock_guard lock(mutex_);
    return scanning_;
}

std::vector<ModelEntry> Library::models() const {
    std::lock_guard lock(mutex_);
    return models_;
}

std::vector<DeviceEntry> Library::devices() const {
    std::lock_guard lock(mutex_);
    return devices_;
}

std::string Library::device_error() const {
    std::lock_guard lock(mutex_);
    return device_error_;
}

std::optional<MemoryEstimate> Library::estimate(const fs::path& model, int64_t context, const std::string& device) {
    std::lock_guard lock(mutex_);
    const Key key{model.string(), device, context};
    auto [at, is_new] = estimates_.try_emplace(key);
    if (is_new) {
        wanted_.push_back(key);
        wake_.notify_all();
    }
    return at->second;
}

void Library::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [&] { return end_ || scan_ || !wanted_.empty(); });
        if (end_) break;
        if (scan_) {
            scan_ = false;
            lock.unlock();
            do_scan();
            lock.lock();
            scanning_ = scan_;
        } else {
            const Key key = wanted_.back();  // the newest: the one that is being looked at
            wanted_.pop_back();
            lock.unlock();
            const MemoryEstimate estimate = do_estimate(key);
            lock.lock();
            estimates_[key] = estimate;
        }
        lock.unlock();
        changed_();
        lock.lock();
    }
    lock.unlock();
    gpu_.reset();
}

void Library::do_scan() {
    std::vector<fs::path> folders;
    bool first;
    {
        std::lock_guard lock(mutex_);
        folders = folders_;
        first = devices_.empty();
    }
    std::vector<ModelEntry> found;
    std::set<fs::path> seen;
    for (const fs::path& folder : folders)
        for (ModelEntry& entry : find_models(folder, &stop_scan_)) {
            std::error_code error;
            if (seen.insert(fs::weakly_canonical(entry.path, error)).second) found.push_back(std::move(entry));
        }
    {
        std::lock_guard lock(mutex_);
        models_ = std::move(found);
        estimates_.clear();
        wanted_.clear();
    }
    changed_();
    if (!first) return;
    std::vector<DeviceEntry> devices;
    std::string error;
    try {
        const Instance instance;
        for (VkPhysicalDevice physical : instance.devices()) {
            const Capabilities c = query_capabilities(physical);
            devices.push_back({c.name, std::string(kind_name(c.kind)), c.device_memory_bytes});
        }
    } catch (const std::exception& e) {
        error = e.what();
    }
    std::lock_guard lock(mutex_);
    devices_ = std::move(devices);
    device_error_ = error;
}

MemoryEstimate Library::do_estimate(const Key& key) {
    MemoryEstimate result;
    try {
        if (!gpu_ || gpu_->selector != key.device) {
            gpu_.reset();
            gpu_ = std::make_unique<Gpu>(key.device);
        }
        const LlamaWeights planned(gpu_->device, key.model, LlamaWeights::Planned{});
        SessionOptions options = session_options(gpu_->device, key.context);
        if (options.context == 0) options.context = 4096;
        options.context = std::min(options.context, planned.config().max_position_embeddings);
        result.context = options.context;
        result.need = memory_need(planned, sequences_options(options));
        result.free = gpu_->device.free_memory();
    } catch (const std::exception& e) {
        result.error = e.what();
        gpu_.reset();
    }
    return result;
}

}  // namespace vkqat

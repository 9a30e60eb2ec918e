// Compute pipelines by shader name and specialization constants, made in parallel and cached on disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/vulkan/vulkan.h"

namespace vkqat {

class Device;

// What to run: an embedded shader, its specialization constants (ids 0, 1, 2, ...; id 0 is the workgroup's width).
struct Kernel {
    std::string shader;
    std::vector<uint32_t> constants;
    auto operator<=>(const Kernel&) const = default;
};

struct Pipeline {
    Kernel kernel;
    VkPipeline handle = VK_NULL_HANDLE;  // null until Pipelines::compile_pending()
    uint32_t push_bytes = 0;
};

// What the driver says of a compiled shader: register counts, spills, code size, as it names them.
struct PipelineStatistic {
    std::string name;
    double value;
};

class Pipelines {
public:
    explicit Pipelines(Device& device, bool disk_cache);
    ~Pipelines();
    Pipelines(const Pipelines&) = delete;
    Pipelines& operator=(const Pipelines&) = delete;

    // The pipeline of this kernel, compiled by the next compile_pending(). Error if the build has no such shader.
    Pipeline* request(const Kernel& kernel);
    // Compiles what was requested, on all cores.
    void compile_pending();
    VkPipelineLayout layout() const { return layout_; }
    // At most; a device that has fewer refuses nodes with more (graph.cpp).
    static constexpr uint32_t push_constant_bytes = 256;

    // Compiles the kernel once more and returns what the driver says about it; empty where it says nothing.
    std::vector<PipelineStatistic> statistics(const Kernel& kernel);

private:
    VkPipeline create(const Kernel& kernel, VkPipelineCreateFlags flags);
    void load_cache();
    void save_cache();

    Device& device_;
    VkPipelineLayout layout_ = VK_NULL_HANDLE;
    VkPipelineCache cache_ = VK_NULL_HANDLE;
    std::filesystem::path cache_file_;
    std::map<Kernel, std::unique_ptr<Pipeline>> pipelines_;
    std::vector<Pipeline*> pending_;
    size_t created_ = 0;
};

}  // namespace vkqat

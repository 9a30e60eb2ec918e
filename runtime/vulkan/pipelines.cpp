#include "runtime/vulkan/pipelines.h"

#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>

#include "runtime/support/files.h"
#include "runtime/vulkan/device.h"
#include "runtime/vulkan/shader_table.h"

namespace vkqat {
namespace {

std::filesystem::path cache_path(const Capabilities& c) {
    std::filesystem::path root;
    if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg)
        root = xdg;
    else if (const char* home = std::getenv("HOME"); home && *home)
        root = std::filesystem::path(home) / ".cache";
    else
        return {};
    std::string uuid;
    for (uint8_t byte : c.pipeline_cache_uuid) uuid += fmt::format("{:02x}", byte);
    return root / "vkqat" / fmt::format("pipelines-{}.bin", uuid);
}

}  // namespace

Pipelines::Pipelines(Device& device, bool disk_cache) : device_(device) {
    VkPushConstantRange range{VK_SHADER_STAGE_COMPUTE_BIT, 0,
                              std::min(push_constant_bytes, device.capabilities().push_constant_bytes)};
    VkPipelineLayoutCreateInfo info{
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .pushConstantRangeCount = 1, .pPushConstantRanges = &range};
    check(device_.vk().vkCreatePipelineLayout(device_.handle(), &info, nullptr, &layout_), "creating the pipeline layout");
    if (disk_cache) cache_file_ = cache_path(device_.capabilities());
    load_cache();
}

Pipelines::~Pipelines() {
    try {
        save_cache();
    } catch (const std::exception&) {
        // A cache that cannot be written costs time at the next start, nothing else.
    }
    for (auto& [kernel, pipeline] : pipelines_) device_.vk().vkDestroyPipeline(device_.handle(), pipeline->handle, nullptr);
    device_.vk().vkDestroyPipelineCache(device_.handle(), cache_, nullptr);
    device_.vk().vkDestroyPipelineLayout(device_.handle(), layout_, nullptr);
}

// The file is the driver's cache data with its CRC-32 in front: a damaged file must not reach the driver.
void Pipelines::load_cache() {
    std::string data;
    std::error_code error;
    if (!cache_file_.empty() && std::filesystem::is_regular_file(cache_file_, error)) {
        try {
            std::string file = read_text_file(cache_file_, size_t(256) << 20);
            uint32_t stored = 0;
            if (file.size() > 4) {
                std::memcpy(&stored, file.data(), 4);
                auto crc = uint32_t(crc32_z(0, reinterpret_cast<const Bytef*>(file.data() + 4), file.size() - 4));
                if (stored == crc) data = file.substr(4);
            }
        } catch (const Error&) {
            data.clear();  // unreadable: start with an empty one
        }
    }
    VkPipelineCacheCreateInfo info{
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO, .initialDataSize = data.size(), .pInitialData = data.data()};
    check(device_.vk().vkCreatePipelineCache(device_.handle(), &info, nullptr, &cache_), "creating the pipeline cache");
}

void Pipelines::save_cache() {
    if (cache_file_.empty() || created_ == 0) return;
    size_t size = 0;
    check(device_.vk().vkGetPipelineCacheData(device_.handle(), cache_, &size, nullptr), "reading the pipeline cache");
    std::string data(size, '\0');
    check(device_.vk().vkGetPipelineCacheData(device_.handle(), cache_, &size, data.data()), "reading the pipeline cache");
    data.resize(size);
    auto crc = uint32_t(crc32_z(0, reinterpret_cast<const Bytef*>(data.data()), data.size()));
    std::filesystem::create_directories(cache_file_.parent_path());
    AtomicFile file(cache_file_);
    file.write(std::as_bytes(std::span(&crc, 1)));
    file.write(data);
    file.commit();
}

Pipeline* Pipelines::request(const Kernel& kernel) {
    auto& slot = pipelines_[kernel];
    if (!slot) {
        if (!find_shader(kernel.shader)) {
            pipelines_.erase(kernel);
            fail("this build has no shader '{}' (the shader compiler at build time could not make it)", kernel.shader);
        }
        slot = std::make_unique<Pipeline>(Pipeline{.kernel = kernel});
        pending_.push_back(slot.get());
    }
    return slot.get();
}

VkPipeline Pipelines::create(const Kernel& kernel, VkPipelineCreateFlags flags) {
    const EmbeddedShader* shader = find_shader(kernel.shader);
    const Capabilities& c = device_.capabilities();
    VkShaderModuleCreateInfo module{.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                    .codeSize = shader->words.size_bytes(),
                                    .pCode = shader->words.data()};
    std::vector<VkSpecializationMapEntry> entries;
    for (uint32_t i = 0; i < kernel.constants.size(); i++) entries.push_back({i, i * 4, 4});
    VkSpecializationInfo specialization{uint32_t(entries.size()), entries.data(), kernel.constants.size() * 4,
                                        kernel.constants.data()};
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size{
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = c.subgroup_size};
    VkComputePipelineCreateInfo info{.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO, .flags = flags, .layout = layout_};
    info.stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .pName = "main",
                  .pSpecializationInfo = &specialization};
    if (c.subgroup_size_control) size.pNext = info.stage.pNext, info.stage.pNext = &size;
    bool whole = !kernel.constants.empty() && kernel.constants[0] % c.subgroup_size == 0;
    if (c.full_subgroups && whole) info.stage.flags |= VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT;

    std::string what = "compiling shader " + kernel.shader;
    check(device_.vk().vkCreateShaderModule(device_.handle(), &module, nullptr, &info.stage.module), what);
    VkPipeline pipeline = VK_NULL_HANDLE;
    VkResult result = device_.vk().vkCreateComputePipelines(device_.handle(), cache_, 1, &info, nullptr, &pipeline);
    device_.vk().vkDestroyShaderModule(device_.handle(), info.stage.module, nullptr);
    check(result, what);
    return pipeline;
}

void Pipelines::compile_pending() {
    std::atomic<size_t> next = 0;
    std::exception_ptr failure;
    std::mutex mutex;
    auto work = [&] {
        for (size_t i; (i = next++) < pending_.size();) {
            try {
                pending_[i]->handle = create(pending_[i]->kernel, 0);
            } catch (...) {
                std::lock_guard lock(mutex);
                failure = std::current_exception();
            }
        }
    };
    size_t count = std::min<size_t>(pending_.size(), std::max(1u, std::thread::hardware_concurrency()));
    {
        std::vector<std::jthread> threads;
        for (size_t i = 1; i < count; i++) threads.emplace_back(work);
        work();
    }
    created_ += pending_.size();
    if (failure) {
        std::erase_if(pipelines_, [](auto& entry) { return entry.second->handle == VK_NULL_HANDLE; });
        pending_.clear();
        std::rethrow_exception(failure);
    }
    pending_.clear();
}

std::vector<PipelineStatistic> Pipelines::statistics(const Kernel& kernel) {
    if (!device_.capabilities().pipeline_executable_info) return {};
    VkPipeline pipeline = create(kernel, VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR);
    std::vector<PipelineStatistic> out;
    VkPipelineExecutableInfoKHR which{.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline};
    uint32_t count = 0;
    if (device_.vk().vkGetPipelineExecutableStatisticsKHR(device_.handle(), &which, &count, nullptr) == VK_SUCCESS) {
        std::vector<VkPipelineExecutableStatisticKHR> list(count, {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR});
        device_.vk().vkGetPipelineExecutableStatisticsKHR(device_.handle(), &which, &count, list.data());
        for (auto& s : list) {
            double value = 0;
            switch (s.format) {
                case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR: value = s.value.b32; break;
                case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR: value = double(s.value.i64); break;
                case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR: value = double(s.value.u64); break;
                default: value = s.value.f64; break;
            }
            out.push_back({s.name, value});
        }
    }
    device_.vk().vkDestroyPipeline(device_.handle(), pipeline, nullptr);
    return out;
}

}  // namespace vkqat

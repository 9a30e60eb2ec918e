#include "runtime/graph/executable.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "runtime/vulkan/barrier.h"

namespace vkqat {
namespace {

// Between dispatches. Indirect arguments are read by another part of the device, and waiting for it costs three times as much as
// the barrier itself (3 of 4 us on an H200): only where they follow.
void compute_barrier(const VolkDeviceTable& vk, VkCommandBuffer commands, bool indirect) {
    VkMemoryBarrier2 barrier{.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2,
                             .srcStageMask = VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT,
                             .srcAccessMask = VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT,
                             .dstStageMask = VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT,
                             .dstAccessMask = VK_ACCESS_2_SHADER_STORAGE_READ_BIT | VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT};
    if (indirect) {
        barrier.dstStageMask |= VK_PIPELINE_STAGE_2_DRAW_INDIRECT_BIT;
        barrier.dstAccessMask |= VK_ACCESS_2_INDIRECT_COMMAND_READ_BIT;
    }
    VkDependencyInfo info{.sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO, .memoryBarrierCount = 1, .pMemoryBarriers = &barrier};
    vk.vkCmdPipelineBarrier2(commands, &info);
}

// A cautious guess of a step's seconds, used until the first measured replay.
double guess_seconds(const Capabilities& c, double bytes, double flops) {
    bool cpu = c.kind == DeviceKind::cpu;
    return bytes / (cpu ? 2e9 : 100e9) + flops / (cpu ? 5e9 : 1e12) + 5e-6;
}

constexpr double display_segment_seconds = 0.1;

}  // namespace

uint64_t Arena::block_bytes(const Device& device) {
    return std::min<uint64_t>(device.capabilities().max_allocation_bytes, uint64_t(4) << 30) / 4096 * 4096;
}

Arena::Arena(Device& device, uint64_t bytes, const std::string& what) : bytes_(bytes), block_bytes_(block_bytes(device)) {
    for (uint64_t done = 0; done < std::max<uint64_t>(bytes, 1); done += block_bytes_)
        blocks_.push_back(device.allocate(std::min(block_bytes_, std::max<uint64_t>(bytes, 1) - done), what));
}

Executable::Executable(const Graph& graph, std::string name, std::shared_ptr<Arena> arena, std::vector<size_t> cuts)
    : device_(graph.device()), graph_(graph), name_(std::move(name)), arena_(std::move(arena)), cuts_(std::move(cuts)) {
    for (const auto& storage : graph.storages())
        if (storage.address && !storage.buffer) fail("graph '{}' cannot run: '{}' has no memory", name_, storage.name);
    plan_ = plan(graph, Arena::block_bytes(device_));
    if (!arena_) arena_ = std::make_shared<Arena>(device_, plan_.arena_bytes, "activations of " + name_);
    if (arena_->bytes() < plan_.arena_bytes)
        fail("graph '{}' needs an arena of {} bytes, was given {}", name_, plan_.arena_bytes, arena_->bytes());
    if (device_.capabilities().quirks.drives_a_display) segment_seconds_ = display_segment_seconds;
    if (const char* ms = std::getenv("VKQAT_SUBMISSION_MS")) segment_seconds_ = std::atof(ms) / 1e3;
    device_.pipelines().compile_pending();
    resolve(graph);
    VkCommandPoolCreateInfo pool{.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                 .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                 .queueFamilyIndex = device_.queue_family()};
    check(device_.vk().vkCreateCommandPool(device_.handle(), &pool, nullptr, &pool_), "creating a command pool");
    record();
}

Executable::~Executable() {
    if (!pool_) return;
    try {
        for (const Segment& s : segments_) device_.wait(s.value);
    } catch (const Error&) {
        // The device is lost: nothing runs any more.
    }
    device_.vk().vkDestroyCommandPool(device_.handle(), pool_, nullptr);
}

uint64_t Executable::address(Tensor t) const {
    const auto& info = graph_.info(t);
    const auto& storage = graph_.storages()[info.storage];
    return (storage.address ? storage.address : arena_->address(plan_.storage_offsets[info.storage])) + info.offset;
}

void Executable::resolve(const Graph& graph) {
    std::vector<std::vector<MemoryUse>> uses;
    for (const Node& node : graph.nodes()) {
        Step step{node.pipeline, node.arguments, node.grid, VK_NULL_HANDLE, 0, false, node.label, node.bytes, node.flops};
        std::vector<MemoryUse> use;
        auto add = [&](const Access& a, uint64_t at) {
            if (a.tensor && a.reads) use.push_back({at, at + a.tensor.bytes(), false});
            if (a.tensor && a.writes) use.push_back({at, at + a.tensor.bytes(), true});
        };
        for (size_t i = 0; i < node.accesses.size(); i++) {
            const Access& a = node.accesses[i];
            uint64_t at = a.tensor ? address(a.tensor) : 0;
            std::memcpy(step.arguments.data() + i * sizeof at, &at, sizeof at);
            add(a, at);
            if (a.tensor)
                for (const Access& through : graph.uses_of(a.tensor)) add(through, through.tensor ? address(through.tensor) : 0);
        }
        if (Tensor t = node.grid.indirect) {
            const auto& info = graph.info(t);
            const auto& storage = graph.storages()[info.storage];
            uint64_t offset = plan_.storage_offsets[info.storage];
            const Buffer* block = storage.address ? nullptr : &arena_->block(offset);
            step.indirect = block ? block->handle() : storage.buffer;
            step.indirect_offset = info.offset + (block ? arena_->address(offset) - block->address() : storage.buffer_offset);
            uint64_t at = address(t);
            use.push_back({at, at + t.bytes(), false});
        }
        uses.push_back(std::move(use));
        steps_.push_back(std::move(step));
    }
    std::vector<bool> needed = barriers(uses);
    for (size_t i = 0; i < steps_.size(); i++) {
        steps_[i].barrier = needed[i];
        estimates_.push_back(guess_seconds(device_.capabilities(), steps_[i].bytes, steps_[i].flops));
    }
}

void Executable::record_step(VkCommandBuffer commands, const Step& step) const {
    const auto& vk = device_.vk();
    vk.vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, step.pipeline->handle);
    vk.vkCmdPushConstants(commands, device_.pipelines().layout(), VK_SHADER_STAGE_COMPUTE_BIT, 0, uint32_t(step.arguments.size()),
                          step.arguments.data());
    if (step.indirect)
        vk.vkCmdDispatchIndirect(commands, step.indirect, step.indirect_offset);
    else
        vk.vkCmdDispatch(commands, step.grid.x, step.grid.y, step.grid.z);
}

void Executable::record_steps(VkCommandBuffer commands, size_t begin, size_t end) const {
    bool indirect_visible = true;  // all writes so far, to indirect dispatches: every submission ends with a full barrier
    for (size_t i = begin; i < end; i++) {
        const bool indirect = steps_[i].indirect != VK_NULL_HANDLE;
        if (i > begin && (steps_[i].barrier || (indirect && !indirect_visible))) {
            compute_barrier(device_.vk(), commands, indirect);
            indirect_visible = indirect;
        }
        record_step(commands, steps_[i]);
    }
}

void Executable::record() {
    const auto& vk = device_.vk();
    for (Segment& s : segments_) {
        device_.wait(s.value);
        vk.vkFreeCommandBuffers(device_.handle(), pool_, 1, &s.commands);
    }
    segments_.clear();
    for (size_t begin = 0; begin < steps_.size() || segments_.empty();) {
        size_t end = begin;
        double seconds = 0;
        const auto cut = std::upper_bound(cuts_.begin(), cuts_.end(), begin);
        const size_t most = cut == cuts_.end() ? steps_.size() : std::min(*cut, steps_.size());
        while (end < most && (segment_seconds_ == 0 || end == begin || seconds + estimates_[end] <= segment_seconds_))
            seconds += estimates_[end++];
        VkCommandBufferAllocateInfo allocate{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                             .commandPool = pool_,
                                             .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                             .commandBufferCount = 1};
        Segment segment{begin, end, VK_NULL_HANDLE};
        check(vk.vkAllocateCommandBuffers(device_.handle(), &allocate, &segment.commands), "allocating a command buffer");
        // Several replays may be in flight: the same command buffer is pending more than once.
        VkCommandBufferBeginInfo info{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                      .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT};
        check(vk.vkBeginCommandBuffer(segment.commands, &info), "recording " + name_);
        // No barrier in front: whatever is submitted ends with one, here, after copies, and in the uploader.
        record_steps(segment.commands, begin, end);
        full_barrier(vk, segment.commands);
        check(vk.vkEndCommandBuffer(segment.commands), "recording " + name_);
        segments_.push_back(segment);
        begin = std::max(end, begin + 1);
    }
}

void Executable::submit_segments(const std::function<void(Segment&)>& submit) {
    if (segment_seconds_ > 0 && !measured_)
        split_again(submit);
    else
        for (Segment& s : segments_) submit(s);
}

uint64_t Executable::replay(uint32_t times) {
    uint64_t value = 0;
    try {
        if (segment_seconds_ == 0 && segments_.size() == 1 && times > 0)
            return segments_[0].value = device_.submit(segments_[0].commands, times);
        for (uint32_t i = 0; i < times; i++) submit_segments([&](Segment& s) { value = s.value = device_.submit(s.commands); });
    } catch (const Error& e) {
        report_lost(e);
    }
    return value;
}

uint64_t Executable::replay_to_cuts(const std::function<void(size_t, uint64_t)>& at_cut) {
    uint64_t value = 0;
    size_t cut = 0;
    try {
        submit_segments([&](Segment& s) {
            value = s.value = device_.submit(s.commands);
            for (; cut < cuts_.size() && cuts_[cut] <= s.end; cut++) at_cut(cut, value);
        });
    } catch (const Error& e) {
        report_lost(e);
    }
    return value;
}

// The first replay on a device that drives a display waits for each segment and takes its time, and then cuts again.
void Executable::split_again(const std::function<void(Segment&)>& submit) {
    using clock = std::chrono::steady_clock;
    device_.wait_idle();
    for (Segment& s : segments_) {
        auto start = clock::now();
        submit(s);
        device_.wait(s.value);
        double seconds = std::chrono::duration<double>(clock::now() - start).count();
        double guessed = 0;
        for (size_t i = s.begin; i < s.end; i++) guessed += estimates_[i];
        for (size_t i = s.begin; i < s.end; i++) estimates_[i] *= seconds / guessed;
    }
    measured_ = true;
    record();
}

void Executable::report_lost(const Error& error) const {
    uint64_t done = 0;
    try {
        done = device_.completed();
    } catch (const Error&) {
        throw error;
    }
    for (const Segment& s : segments_)
        if (s.value > done && s.begin < s.end)
            fail("{} (graph '{}': last finished before node '{}', no later than node '{}')", error.what(), name_,
                 steps_[s.begin].label, steps_[s.end - 1].label);
    throw error;
}

std::vector<double> Executable::with_timestamps(uint32_t count, const std::function<void(VkCommandBuffer, VkQueryPool)>& fill) {
    const auto& vk = device_.vk();
    double period = device_.capabilities().timestamp_period_ns;
    if (period == 0) fail("{} has no timestamps on its compute queue: nothing can be timed", device_.capabilities().name);
    VkQueryPoolCreateInfo info{
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO, .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = count};
    VkQueryPool queries = VK_NULL_HANDLE;
    check(vk.vkCreateQueryPool(device_.handle(), &info, nullptr, &queries), "creating timestamps");
    VkCommandBufferAllocateInfo allocate{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                         .commandPool = pool_,
                                         .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                         .commandBufferCount = 1};
    VkCommandBuffer commands = VK_NULL_HANDLE;
    check(vk.vkAllocateCommandBuffers(device_.handle(), &allocate, &commands), "allocating a command buffer");
    VkCommandBufferBeginInfo begin{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    check(vk.vkBeginCommandBuffer(commands, &begin), "recording a profile");
    vk.vkCmdResetQueryPool(commands, queries, 0, count);
    full_barrier(vk, commands);
    fill(commands, queries);
    check(vk.vkEndCommandBuffer(commands), "recording a profile");
    device_.wait(device_.submit(commands));
    std::vector<uint64_t> ticks(count);
    check(vk.vkGetQueryPoolResults(device_.handle(), queries, 0, count, ticks.size() * 8, ticks.data(), 8,
                                   VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT),
          "reading timestamps");
    vk.vkDestroyQueryPool(device_.handle(), queries, nullptr);
    vk.vkFreeCommandBuffers(device_.handle(), pool_, 1, &commands);
    std::vector<double> seconds;
    for (uint64_t t : ticks) seconds.push_back(double(t - ticks[0]) * period * 1e-9);
    return seconds;
}

std::vector<ProfileRow> Executable::profile() {
    const auto& vk = device_.vk();
    auto seconds = with_timestamps(uint32_t(steps_.size() + 1), [&](VkCommandBuffer commands, VkQueryPool queries) {
        vk.vkCmdWriteTimestamp2(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, queries, 0);
        for (size_t i = 0; i < steps_.size(); i++) {
            record_step(commands, steps_[i]);
            full_barrier(vk, commands);
            vk.vkCmdWriteTimestamp2(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, queries, uint32_t(i + 1));
        }
    });
    std::vector<ProfileRow> rows;
    for (size_t i = 0; i < steps_.size(); i++)
        rows.push_back({steps_[i].label, seconds[i + 1] - seconds[i], steps_[i].bytes, steps_[i].flops});
    return rows;
}

double Executable::timed_run() {
    const auto& vk = device_.vk();
    return with_timestamps(2, [&](VkCommandBuffer commands, VkQueryPool queries) {
        vk.vkCmdWriteTimestamp2(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, queries, 0);
        record_steps(commands, 0, steps_.size());
        full_barrier(vk, commands);
        vk.vkCmdWriteTimestamp2(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, queries, 1);
    })[1];
}

size_t Executable::barrier_count() const {
    return size_t(std::count_if(steps_.begin(), steps_.end(), [](const Step& s) { return s.barrier; }));
}
double Executable::total_bytes() const {
    double sum = 0;
    for (const Step& s : steps_) sum += s.bytes;
    return sum;
}
double Executable::total_flops() const {
    double sum = 0;
    for (const Step& s : steps_) sum += s.flops;
    return sum;
}

std::vector<std::byte> Executable::read(Tensor t) const {
    const auto& info = graph_.info(t);
    if (graph_.storages()[info.storage].address) fail("read of '{}': an external tensor is read from its buffer", t.name());
    uint64_t at = plan_.storage_offsets[info.storage];
    const Buffer& block = arena_->block(at);
    std::vector<std::byte> bytes(t.bytes());
    device_.download(block, arena_->address(at) - block.address() + info.offset, bytes);
    return bytes;
}

}  // namespace vkqat

// A planned graph as recorded command buffers: replayed with no work per step on the CPU.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/graph/graph.h"
#include "runtime/graph/plan.h"

namespace vkqat {

// The memory of the tensors that graphs plan for themselves, in blocks no larger than one allocation of the device. Graphs
// that never run at the same time share one.
class Arena {
public:
    Arena(Device& device, uint64_t bytes, const std::string& what);
    uint64_t address(uint64_t offset) const { return blocks_[offset / block_bytes_].address() + offset % block_bytes_; }
    const Buffer& block(uint64_t offset) const { return blocks_[offset / block_bytes_]; }
    uint64_t bytes() const { return bytes_; }
    static uint64_t block_bytes(const Device& device);

private:
    uint64_t bytes_, block_bytes_;
    std::vector<Buffer> blocks_;
};

struct ProfileRow {
    std::string label;
    double seconds = 0, bytes = 0, flops = 0;
};

class Executable {
public:
    // Plans, compiles and records. With an `arena`, which must be large enough, its memory is used; otherwise one is made.
    // `cuts`: node counts, ascending, behind which a submission ends, so that others may wait for what has been done by then.
    Executable(const Graph& graph, std::string name, std::shared_ptr<Arena> arena = nullptr, std::vector<size_t> cuts = {});
    ~Executable();
    Executable(const Executable&) = delete;
    Executable& operator=(const Executable&) = delete;

    // Submits the graph after everything submitted before, `times` times in a row: in one submission, unless submissions must be
    // short. Returns the timeline value that marks the end.
    uint64_t replay(uint32_t times = 1);
    // Once, in submissions that end at the cuts: calls `at_cut` behind each, with the timeline value that marks its end.
    uint64_t replay_to_cuts(const std::function<void(size_t index, uint64_t value)>& at_cut);
    void run() { device_.wait(replay()); }
    // Runs once with a timestamp around each node, which keeps nodes from overlapping; waits. Error without timestamps.
    std::vector<ProfileRow> profile();

    // Runs once and returns the device's seconds from the first node to the last, nodes overlapping as in a replay; waits.
    double timed_run();

    const std::string& name() const { return name_; }
    uint64_t arena_bytes() const { return plan_.arena_bytes; }
    size_t node_count() const { return steps_.size(); }
    size_t barrier_count() const;
    size_t segment_count() const { return segments_.size(); }
    double total_bytes() const;
    double total_flops() const;
    uint64_t address(Tensor t) const;  // for tests
    // Reads a tensor of the graph after a run (tests; a transient one must still be alive at the end of the graph).
    std::vector<std::byte> read(Tensor t) const;

private:
    struct Step {  // a node with its addresses resolved
        const Pipeline* pipeline;
        std::vector<std::byte> arguments;
        Grid grid;
        VkBuffer indirect = VK_NULL_HANDLE;
        uint64_t indirect_offset = 0;
        bool barrier;
        std::string label;
        double bytes, flops;
    };
    // Work is cut into segments of consecutive steps, each a submission short enough for a device that drives a display.
    struct Segment {
        size_t begin, end;
        VkCommandBuffer commands;
        uint64_t value = 0;  // timeline value of its last submission
    };
    void resolve(const Graph& graph);
    void record();
    void record_step(VkCommandBuffer commands, const Step& step) const;
    void record_steps(VkCommandBuffer commands, size_t begin, size_t end) const;
    // Runs what `fill` records between a reset of `count` timestamps and the end, and returns the timestamps in seconds.
    std::vector<double> with_timestamps(uint32_t count, const std::function<void(VkCommandBuffer, VkQueryPool)>& fill);
    void submit_segments(const std::function<void(Segment&)>& submit);
    void split_again(const std::function<void(Segment&)>& submit);
    [[noreturn]] void report_lost(const Error& error) const;

    Device& device_;
    const Graph& graph_;
    std::string name_;
    Plan plan_;
    std::shared_ptr<Arena> arena_;
    std::vector<Step> steps_;
    VkCommandPool pool_ = VK_NULL_HANDLE;
    std::vector<size_t> cuts_;
    std::vector<Segment> segments_;
    double segment_seconds_ = 0;  // 0: not limited
    bool measured_ = false;
    std::vector<double> estimates_;  // seconds of each step, first guessed from bytes and FLOPs, then measured
};

}  // namespace vkqat

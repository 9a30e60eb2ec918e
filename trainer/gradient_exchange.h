// Sums the gradients of all ranks while the backward pass still runs.
//
// Gradients lie in flat blocks; a bucket is a stretch of one. The graph's recording is cut behind the node that completes a
// bucket; a copy queue then brings the bucket to host memory, the ranks add it up, and it goes back, all beside the nodes that
// follow.
//
// Ranks of one machine share that memory: each adds up its part of a bucket over all ranks, in their order, and reads the other
// parts from where the others have written them. Devices use the memory in place where they can. Over several machines a bucket
// is summed by MPI.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "runtime/graph/executable.h"
#include "runtime/vulkan/copy_queue.h"
#include "trainer/buckets.h"
#include "trainer/communicator.h"
#include "trainer/shared_memory.h"
#include "trainer/touched_rows.h"

namespace vkqat {

struct ExchangeOptions {
    uint64_t bucket_bytes = uint64_t(32) << 20;
    bool share_memory = true;  // where the ranks are on one machine
    RowMatrix embedding = {};  // whose gradients are exchanged where tokens occur only; without rows: everywhere
    bool zero1 = false;        // a rank needs the sums of its part of each bucket only (part_of), and updates the weights there
};

class GradientExchange {
public:
    // gradients: the blocks, f32, the same on every rank. Takes their size of host memory for each rank, and once more for the
    // sums.
    GradientExchange(Device& device, Communicator& ranks, const std::vector<Buffer>& gradients, const ExchangeOptions& options);
    ~GradientExchange();

    // Behind which nodes of a graph which buckets are complete.
    struct Schedule {
        std::vector<size_t> cuts;                  // node counts, for the Executable
        std::vector<std::vector<size_t>> buckets;  // of each cut
    };
    Schedule schedule(const Graph& graph) const;
    // Replays the graph, which was recorded with the schedule's cuts. On return it has ended, and the blocks hold the sums. ids:
    // this rank's tokens since the gradients were zero, equally many on every rank.
    void run(Executable& executable, const Schedule& schedule, std::span<const int32_t> ids);
    // Each rank's part of these blocks, which are as large as the gradients', to all others. Begins when the device's timeline
    // has reached `after`, and waits for the end.
    void gather_parts(const std::vector<Buffer>& blocks, uint64_t after);

    // Seconds between the end of the graph and that of the exchange, in the mean of the calls of run().
    double exposed_seconds() const { return steps_ ? exposed_seconds_ / double(steps_) : 0; }
    size_t buckets() const { return buckets_.size(); }
    // "shared memory, used by the device in place": for the log.
    std::string way() const;

private:
    struct alignas(64) Counter {
        uint64_t step;
    };
    // Host memory of all blocks as the device sees it: the memory itself, or copies that are carried over by the CPU.
    struct HostBlocks {
        std::vector<HostMemory> in_place;
        std::vector<Buffer> copies;
    };
    HostBlocks host_blocks(std::byte* memory, const std::string& what);
    BufferPart host_part(const HostBlocks& blocks, const Stretch& bucket) const;
    bool share();
    uint64_t copy_down(const Stretch& bucket, uint64_t after);
    void reduce_shared(size_t bucket, uint64_t down);
    void copy_up(const HostBlocks& from, const Stretch& stretch, const std::vector<Buffer>& to);
    void copy_sums_up(const Stretch& stretch);
    uint64_t own_bit() const { return uint64_t(1) << ranks_.rank(); }
    Stretch own_part(size_t bucket) const { return part_of(buckets_[bucket], ranks_.rank(), ranks_.size()); }
    void await(const Counter& counter) const;
    Counter& contributed(int rank, size_t bucket) const;
    Counter& reduced(int rank, size_t bucket) const;
    float* floats(const SharedMemory& memory, const Stretch& bucket) const;

    Device& device_;
    Communicator& ranks_;
    const std::vector<Buffer>& gradients_;
    std::vector<Stretch> buckets_;
    std::vector<uint64_t> block_offset_;  // of a block in host memory, in bytes
    uint64_t host_bytes_ = 0;
    uint64_t step_ = 0;  // counts what the ranks have done together
    double exposed_seconds_ = 0;
    uint64_t steps_ = 0;
    bool shared_ = false, zero1_;
    TouchedRows touched_;
    std::atomic<bool> failed_ = false;
    std::vector<SharedMemory> contributions_;  // one of each rank
    SharedMemory result_, control_;
    HostBlocks down_, up_;
    CopyQueue down_queue_;
    std::unique_ptr<CopyQueue> own_up_queue_;
    CopyQueue* up_queue_;
};

}  // namespace vkqat

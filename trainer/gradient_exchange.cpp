#include "trainer/gradient_exchange.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>

namespace vkqat {
namespace {

constexpr uint64_t page = 4096;
// Buckets and parts begin at multiples of this many elements.
constexpr uint64_t grain = 8192;
constexpr unsigned most_threads = 8;

uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

// Elements [first, second) of `count` that rank `rank` of `size` adds up.
std::pair<uint64_t, uint64_t> part(uint64_t count, int rank, int size) {
    const uint64_t grains = (count + grain - 1) / grain;
    auto begin = [&](int r) { return std::min(count, grains * uint64_t(r) / uint64_t(size) * grain); };
    return {begin(rank), begin(rank + 1)};
}

std::atomic_ref<uint64_t> atomic(uint64_t& value) { return std::atomic_ref<uint64_t>(value); }

}  // namespace

GradientExchange::GradientExchange(Device& device, Communicator& ranks, const std::vector<Buffer>& gradients,
                                   const ExchangeOptions& options)
    : device_(device), ranks_(ranks), gradients_(gradients), down_queue_(device, 0) {
    const uint64_t size = std::max(options.bucket_bytes / 4 / grain, uint64_t(1)) * grain;
    const uint64_t alignment = std::max(page, device.capabilities().host_memory_alignment);
    for (size_t block = 0; block < gradients.size(); block++) {
        const uint64_t count = gradients[block].bytes() / 4;
        for (uint64_t first = 0; first < count; first += size) buckets_.push_back({block, first, std::min(size, count - first)});
        block_offset_.push_back(host_bytes_);
        host_bytes_ += round_up(count * 4, alignment);
    }
    if (device.copy_queues().size() > 1) own_up_queue_ = std::make_unique<CopyQueue>(device, 1);
    up_queue_ = own_up_queue_ ? own_up_queue_.get() : &down_queue_;
    shared_ = options.share_memory && share();
    down_ = host_blocks(shared_ ? contributions_[size_t(ranks.rank())].data() : nullptr, "this rank's gradients");
    if (shared_) up_ = host_blocks(result_.data(), "the summed gradients");
}

GradientExchange::~GradientExchange() = default;

// Maps one another's memory; false where that is not possible for all ranks.
bool GradientExchange::share() {
    if (ranks_.size() == 1 || !ranks_.one_node()) return false;
    struct Handles {
        pid_t process;
        int contribution, result, control;
    };
    Handles mine{::getpid(), -1, -1, -1};
    const auto rank = size_t(ranks_.rank()), size = size_t(ranks_.size());
    contributions_.resize(size);
    const uint64_t control_bytes = 2 * size * buckets_.size() * sizeof(Counter);
    contributions_[rank] = SharedMemory(host_bytes_);
    mine.contribution = contributions_[rank].number();
    if (ranks_.first()) {
        result_ = SharedMemory(host_bytes_);
        control_ = SharedMemory(control_bytes);
        mine.result = result_.number();
        mine.control = control_.number();
    }
    const std::vector<std::byte> all = ranks_.all_gather(std::as_bytes(std::span(&mine, 1)));
    bool failed = false;
    try {
        for (size_t r = 0; r < size; r++) {
            Handles handles;
            std::memcpy(&handles, all.data() + r * sizeof handles, sizeof handles);
            if (r == rank) continue;
            contributions_[r] = SharedMemory(handles.process, handles.contribution, host_bytes_);
            if (r > 0) continue;
            result_ = SharedMemory(handles.process, handles.result, host_bytes_);
            control_ = SharedMemory(handles.process, handles.control, control_bytes);
        }
    } catch (const Error&) {
        failed = true;  // the processes may not see one another: MPI is left
    }
    if (!ranks_.any(failed)) return true;
    contributions_.clear();
    result_ = SharedMemory();
    control_ = SharedMemory();
    return false;
}

GradientExchange::HostBlocks GradientExchange::host_blocks(std::byte* memory, const std::string& what) {
    HostBlocks blocks;
    const uint64_t alignment = device_.capabilities().host_memory_alignment;
    try {
        for (size_t block = 0; memory && alignment && block < gradients_.size(); block++)
            blocks.in_place.emplace_back(device_, memory + block_offset_[block],
                                         round_up(gradients_[block].bytes(), std::max(page, alignment)), what);
    } catch (const Error&) {
        blocks.in_place.clear();  // the driver does not take such memory: copies do the same, slower
    }
    if (blocks.in_place.empty())
        for (const Buffer& gradient : gradients_) blocks.copies.push_back(device_.allocate_host(gradient.bytes(), what));
    return blocks;
}

std::string GradientExchange::way() const {
    if (!shared_) return "MPI";
    return down_.in_place.empty() || up_.in_place.empty() ? "shared memory, through copies"
                                                          : "shared memory that the devices use in place";
}

BufferPart GradientExchange::host_part(const HostBlocks& blocks, const Bucket& b) const {
    return {blocks.in_place.empty() ? blocks.copies[b.block].handle() : blocks.in_place[b.block].handle(), b.first * 4};
}

float* GradientExchange::floats(const SharedMemory& memory, const Bucket& b) const {
    return reinterpret_cast<float*>(memory.data() + block_offset_[b.block]) + b.first;
}

GradientExchange::Counter& GradientExchange::contributed(int rank, size_t bucket) const {
    return reinterpret_cast<Counter*>(control_.data())[size_t(rank) * buckets_.size() + bucket];
}
GradientExchange::Counter& GradientExchange::reduced(int rank, size_t bucket) const {
    return contributed(ranks_.size() + rank, bucket);
}

GradientExchange::Schedule GradientExchange::schedule(const Graph& graph) const {
    std::map<size_t, std::vector<size_t>> at;  // node count -> buckets
    for (size_t i = 0; i < buckets_.size(); i++) {
        const Bucket& b = buckets_[i];
        const uint64_t begin = gradients_[b.block].address() + b.first * 4, end = begin + b.count * 4;
        size_t ready = 0;
        for (size_t n = 0; n < graph.nodes().size(); n++)
            for (const Access& a : graph.nodes()[n].accesses) {
                if (!a.tensor || !a.writes) continue;
                const auto& info = graph.info(a.tensor);
                const uint64_t address = graph.storages()[info.storage].address;
                if (!address) continue;
                const uint64_t first = address + info.offset;
                if (first < end && begin < first + a.tensor.bytes()) ready = n + 1;
            }
        at[std::max<size_t>(ready, 1)].push_back(i);
    }
    Schedule schedule;
    for (auto& [cut, buckets] : at) {
        schedule.cuts.push_back(cut);
        schedule.buckets.push_back(std::move(buckets));
    }
    return schedule;
}

void GradientExchange::await(const Counter& counter) const {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    auto checked = start;
    while (atomic(const_cast<uint64_t&>(counter.step)).load(std::memory_order_acquire) < step_) {
        if (failed_) fail("another thread of the exchange failed");
        const auto now = Clock::now();
        if (now - start > std::chrono::milliseconds(1))
            std::this_thread::sleep_for(std::chrono::microseconds(20));
        else
            std::this_thread::yield();
        if (now - checked > std::chrono::milliseconds(50)) {
            ranks_.check_peers();
            checked = now;
        }
    }
}

void GradientExchange::reduce_shared(size_t i, uint64_t down) {
    const Bucket& b = buckets_[i];
    const int rank = ranks_.rank(), size = ranks_.size();
    down_queue_.wait(down);
    if (down_.in_place.empty())
        std::memcpy(floats(contributions_[size_t(rank)], b), down_.copies[b.block].mapped_as<float>().data() + b.first,
                    b.count * 4);
    atomic(contributed(rank, i).step).store(step_, std::memory_order_release);
    for (int r = 0; r < size; r++) await(contributed(r, i));

    // In the order of the ranks, whoever does it; in pieces that stay in the cache.
    constexpr uint64_t piece = 4096;
    const auto [first, last] = part(b.count, rank, size);
    float* sum = floats(result_, b);
    for (uint64_t begin = first; begin < last; begin += piece) {
        const uint64_t end = std::min(begin + piece, last);
        const float* x = floats(contributions_[0], b);
        const float* y = floats(contributions_[1], b);
        for (uint64_t j = begin; j < end; j++) sum[j] = x[j] + y[j];
        for (int r = 2; r < size; r++) {
            y = floats(contributions_[size_t(r)], b);
            for (uint64_t j = begin; j < end; j++) sum[j] += y[j];
        }
    }
    atomic(reduced(rank, i).step).store(step_, std::memory_order_release);
    for (int r = 0; r < size; r++) await(reduced(r, i));
    if (up_.in_place.empty()) std::memcpy(up_.copies[b.block].mapped_as<float>().data() + b.first, sum, b.count * 4);
    up_queue_->copy(host_part(up_, b), {gradients_[b.block].handle(), b.first * 4}, b.count * 4);
}

void GradientExchange::run(Executable& executable, const Schedule& schedule) {
    step_++;
    struct Started {
        size_t bucket;
        uint64_t down;
    };
    std::vector<Started> order;
    const uint64_t end = executable.replay_to_cuts([&](size_t cut, uint64_t value) {
        for (size_t i : schedule.buckets[cut]) {
            const Bucket& b = buckets_[i];
            order.push_back(
                {i, down_queue_.copy({gradients_[b.block].handle(), b.first * 4}, host_part(down_, b), b.count * 4, value)});
        }
    });
    if (!shared_) {
        for (const Started& s : order) {
            const Bucket& b = buckets_[s.bucket];
            down_queue_.wait(s.down);
            ranks_.all_reduce_sum(down_.copies[b.block].mapped_as<float>().subspan(b.first, b.count));
            up_queue_->copy(host_part(down_, b), {gradients_[b.block].handle(), b.first * 4}, b.count * 4);
        }
    } else {
        // Every thread takes buckets in the same order, so none waits for one that stands behind it.
        const unsigned cores = std::max(std::thread::hardware_concurrency() / unsigned(ranks_.node_size()), 1u);
        const size_t threads = down_queue_.beside_compute() ? std::min(cores, most_threads) : 1;
        std::exception_ptr error;
        std::mutex mutex;
        auto work = [&](size_t thread) {
            try {
                for (size_t i = thread; i < order.size(); i += threads) reduce_shared(order[i].bucket, order[i].down);
            } catch (...) {
                std::lock_guard lock(mutex);
                if (!error) error = std::current_exception();
                failed_ = true;
            }
        };
        std::vector<std::jthread> others;
        for (size_t t = 1; t < threads; t++) others.emplace_back(work, t);
        work(0);
        others.clear();
        if (error) std::rethrow_exception(error);
    }
    up_queue_->wait(up_queue_->submitted());
    device_.wait(end);
}

}  // namespace vkqat

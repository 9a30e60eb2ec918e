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
constexpr unsigned most_threads = 8;

uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

std::atomic_ref<uint64_t> atomic(uint64_t& value) { return std::atomic_ref<uint64_t>(value); }

}  // namespace

GradientExchange::GradientExchange(Device& device, Communicator& ranks, const std::vector<Buffer>& gradients,
                                   const ExchangeOptions& options)
    : device_(device),
      ranks_(ranks),
      gradients_(gradients),
      zero1_(options.zero1),
      touched_(
          options.share_memory && ranks.one_node() && ranks.size() <= TouchedRows::most_ranks ? options.embedding : RowMatrix{},
          std::min(ranks.size(), TouchedRows::most_ranks)),
      down_queue_(device, 0) {
    const uint64_t alignment = std::max(page, device.capabilities().host_memory_alignment);
    std::vector<uint64_t> elements;
    for (const Buffer& gradient : gradients) {
        const uint64_t count = gradient.bytes() / 4;
        elements.push_back(count);
        block_offset_.push_back(host_bytes_);
        host_bytes_ += round_up(count * 4, alignment);
    }
    buckets_ = cut_into_buckets(elements, options.bucket_bytes);
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

BufferPart GradientExchange::host_part(const HostBlocks& blocks, const Stretch& b) const {
    return {blocks.in_place.empty() ? blocks.copies[b.block].handle() : blocks.in_place[b.block].handle(), b.first * 4};
}

float* GradientExchange::floats(const SharedMemory& memory, const Stretch& b) const {
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
        const Stretch& b = buckets_[i];
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

// What this rank has of a bucket, to its own memory. 0 where that is nothing.
uint64_t GradientExchange::copy_down(const Stretch& b, uint64_t after) {
    std::vector<VkBufferCopy> pieces;
    const BufferPart host = host_part(down_, {b.block, 0, 0});
    for (const auto& [stretch, ranks] : touched_.pieces(b))
        if (ranks & own_bit()) pieces.push_back({stretch.first * 4, host.offset + stretch.first * 4, stretch.count * 4});
    return pieces.empty() ? 0 : down_queue_.copy(gradients_[b.block].handle(), host.buffer, pieces, after);
}

void GradientExchange::reduce_shared(size_t i, uint64_t down) {
    const Stretch& b = buckets_[i];
    const int rank = ranks_.rank(), size = ranks_.size();
    down_queue_.wait(down);
    if (down_.in_place.empty())
        for (const auto& [s, ranks] : touched_.pieces(b))
            if (ranks & own_bit())
                std::memcpy(floats(contributions_[size_t(rank)], s), down_.copies[s.block].mapped_as<float>().data() + s.first,
                            s.count * 4);
    atomic(contributed(rank, i).step).store(step_, std::memory_order_release);
    for (int r = 0; r < size; r++) await(contributed(r, i));

    // In the order of the ranks, whoever does it; in pieces that stay in the cache.
    constexpr uint64_t at_once = 4096;
    const Stretch part = own_part(i);
    for (const auto& [s, ranks] : touched_.pieces(part)) {
        float* sum = floats(result_, s);
        for (uint64_t begin = 0; begin < s.count; begin += at_once) {
            const uint64_t end = std::min(begin + at_once, s.count);
            bool first = true;
            for (int r = 0; r < size; r++) {
                if (!(ranks >> r & 1)) continue;
                const float* x = floats(contributions_[size_t(r)], s);
                if (first)
                    std::copy(x + begin, x + end, sum + begin);
                else
                    for (uint64_t j = begin; j < end; j++) sum[j] += x[j];
                first = false;
            }
        }
    }
    if (zero1_) return copy_sums_up(part);
    atomic(reduced(rank, i).step).store(step_, std::memory_order_release);
    for (int r = 0; r < size; r++) await(reduced(r, i));
    copy_sums_up(b);
}

// Where other ranks have added something.
void GradientExchange::copy_sums_up(const Stretch& stretch) {
    std::vector<VkBufferCopy> pieces;
    const BufferPart host = host_part(up_, {stretch.block, 0, 0});
    for (const auto& [s, ranks] : touched_.pieces(stretch)) {
        if ((ranks & ~own_bit()) == 0) continue;
        if (up_.in_place.empty())
            std::memcpy(up_.copies[s.block].mapped_as<float>().data() + s.first, floats(result_, s), s.count * 4);
        pieces.push_back({host.offset + s.first * 4, s.first * 4, s.count * 4});
    }
    if (!pieces.empty()) up_queue_->copy(host.buffer, gradients_[stretch.block].handle(), pieces);
}

// From the host's blocks to the same place of the device's.
void GradientExchange::copy_up(const HostBlocks& from, const Stretch& s, const std::vector<Buffer>& to) {
    if (s.count == 0) return;
    if (shared_ && from.in_place.empty())
        std::memcpy(from.copies[s.block].mapped_as<float>().data() + s.first, floats(result_, s), s.count * 4);
    up_queue_->copy(host_part(from, s), {to[s.block].handle(), s.first * 4}, s.count * 4);
}

void GradientExchange::run(Executable& executable, const Schedule& schedule, std::span<const int32_t> ids) {
    step_++;
    if (shared_) touched_.gather(ranks_, ids);
    struct Started {
        size_t bucket;
        uint64_t down;
    };
    std::vector<Started> order;
    const uint64_t end = executable.replay_to_cuts([&](size_t cut, uint64_t value) {
        for (size_t i : schedule.buckets[cut]) {
            order.push_back({i, copy_down(buckets_[i], value)});
        }
    });
    using Clock = std::chrono::steady_clock;
    Clock::time_point ended = Clock::time_point::max();
    std::jthread watch([&] {
        try {
            device_.wait(end);
            ended = Clock::now();
        } catch (const Error&) {
            // The wait below says it again.
        }
    });
    if (!shared_) {
        for (const Started& s : order) {
            const Stretch& b = buckets_[s.bucket];
            down_queue_.wait(s.down);
            ranks_.all_reduce_sum(down_.copies[b.block].mapped_as<float>().subspan(b.first, b.count));
            copy_up(down_, zero1_ ? own_part(s.bucket) : b, gradients_);
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
    watch.join();
    exposed_seconds_ += std::max(0.0, std::chrono::duration<double>(Clock::now() - ended).count());
    steps_++;
}

void GradientExchange::gather_parts(const std::vector<Buffer>& blocks, uint64_t after) {
    step_++;
    const HostBlocks& host = shared_ ? up_ : down_;
    std::vector<uint64_t> down(buckets_.size());
    for (size_t i = 0; i < buckets_.size(); i++)
        if (const Stretch part = own_part(i); part.count > 0)
            down[i] =
                down_queue_.copy({blocks[part.block].handle(), part.first * 4}, host_part(host, part), part.count * 4, after);
    std::vector<std::byte> mine;
    for (size_t i = 0; i < buckets_.size(); i++) {
        const Stretch own = own_part(i);
        down_queue_.wait(down[i]);
        if (shared_) {
            if (host.in_place.empty())
                std::memcpy(floats(result_, own), host.copies[own.block].mapped_as<float>().data() + own.first, own.count * 4);
            atomic(contributed(ranks_.rank(), i).step).store(step_, std::memory_order_release);
            continue;
        }
        uint64_t most = 0;  // all_gather() takes equally many of each
        for (int r = 0; r < ranks_.size(); r++) most = std::max(most, part_of(buckets_[i], r, ranks_.size()).count);
        float* values = host.copies[own.block].mapped_as<float>().data();
        mine.resize(most * 4);
        std::memcpy(mine.data(), values + own.first, own.count * 4);
        const std::vector<std::byte> all = ranks_.all_gather(mine);
        for (int r = 0; r < ranks_.size(); r++) {
            const Stretch part = part_of(buckets_[i], r, ranks_.size());
            std::memcpy(values + part.first, all.data() + uint64_t(r) * most * 4, part.count * 4);
        }
    }
    for (size_t i = 0; i < buckets_.size(); i++)
        for (int r = 0; r < ranks_.size(); r++) {
            if (r == ranks_.rank()) continue;
            if (shared_) await(contributed(r, i));
            copy_up(host, part_of(buckets_[i], r, ranks_.size()), blocks);
        }
    up_queue_->wait(up_queue_->submitted());
}

}  // namespace vkqat

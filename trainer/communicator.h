// The processes of one training, called ranks: one for each GPU, started by `mpirun -n N vkqat train ...`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace vkqat {

// All calls but check_peers() are collective: every rank makes them in the same order. While they wait for the others they throw
// an Error that names the rank when one of this machine has ended without leaving().
class Communicator {
public:
    Communicator() = default;
    virtual ~Communicator() = default;
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;

    int rank() const { return rank_; }
    int size() const { return size_; }
    // Among the ranks of this machine.
    int node_rank() const { return node_rank_; }
    int node_size() const { return node_size_; }
    bool one_node() const { return node_size_ == size_; }
    bool first() const { return rank_ == 0; }  // the one that writes and prints

    // values[i] becomes the sum over all ranks, with the same bits on each.
    virtual void all_reduce_sum(std::span<float> values) = 0;
    virtual void all_reduce_sum(std::span<double> values) = 0;
    virtual void all_reduce_sum(std::span<int64_t> values) = 0;
    // Rank 0's bytes for all.
    virtual void broadcast(std::span<std::byte> bytes) = 0;
    // Equally many bytes of each rank, in the order of the ranks.
    virtual std::vector<std::byte> all_gather(std::span<const std::byte> bytes) = 0;
    virtual void barrier() = 0;
    // Error naming a rank of this machine that has ended.
    virtual void check_peers() const = 0;
    // The orderly end, in place of which a rank that fails simply ends.
    virtual void leave() = 0;

    int64_t sum(int64_t value) {
        all_reduce_sum(std::span(&value, 1));
        return value;
    }
    bool any(bool value) { return sum(value) > 0; }

protected:
    int rank_ = 0, size_ = 1, node_rank_ = 0, node_size_ = 1;
};

// A process that is alone.
std::unique_ptr<Communicator> single_rank();

// The ranks that an MPI launcher has started; a process that nobody launched is alone. Error: it was launched, but MPI's part of
// the program (libvkqat_mpi.so, beside it) is not there or cannot be loaded.
std::unique_ptr<Communicator> connect_ranks();

}  // namespace vkqat

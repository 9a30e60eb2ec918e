// The ranks through MPI: a library of its own, which the program loads when a launcher has started it (communicator.cpp).
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "runtime/support/error.h"
#include "trainer/communicator.h"

namespace vkqat {
namespace {

void check(int result, const char* what) {
    if (result == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(result, text, &length);
    fail("{} among the ranks failed: {}", what, text);
}

class MpiCommunicator : public Communicator {
public:
    MpiCommunicator() {
        int ready = 0, level = 0;
        MPI_Initialized(&ready);
        // Threads sum gradients, but only one of them calls MPI.
        if (!ready) check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level), "starting MPI");
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
        MPI_Comm_size(MPI_COMM_WORLD, &size_);
        MPI_Comm node;
        check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node),
              "finding this machine's ranks");
        MPI_Comm_set_errhandler(node, MPI_ERRORS_RETURN);
        MPI_Comm_rank(node, &node_rank_);
        MPI_Comm_size(node, &node_size_);
        struct Process {
            int rank;
            pid_t pid;
        };
        Process self{rank_, ::getpid()};
        std::vector<Process> processes(static_cast<size_t>(node_size_));
        check(MPI_Allgather(&self, sizeof self, MPI_BYTE, processes.data(), sizeof self, MPI_BYTE, node),
              "finding this machine's ranks");
        MPI_Comm_free(&node);
        for (const Process& p : processes) {
            if (p.rank == rank_) continue;
            int fd = int(::syscall(SYS_pidfd_open, p.pid, 0));
            if (fd >= 0) peers_.push_back({p.rank, p.pid, fd});  // without it the launcher alone notices the end of a rank
        }
    }
    ~MpiCommunicator() override {
        for (const Peer& peer : peers_) ::close(peer.fd);
    }

    void all_reduce_sum(std::span<float> values) override { reduce(values, MPI_FLOAT); }
    void all_reduce_sum(std::span<double> values) override { reduce(values, MPI_DOUBLE); }
    void all_reduce_sum(std::span<int64_t> values) override { reduce(values, MPI_INT64_T); }

    void broadcast(std::span<std::byte> bytes) override {
        for (size_t done = 0; done < bytes.size(); done += most) {
            MPI_Request request;
            auto count = int(std::min(most, bytes.size() - done));
            check(MPI_Ibcast(bytes.data() + done, count, MPI_BYTE, 0, MPI_COMM_WORLD, &request), "a broadcast");
            wait(request, "a broadcast");
        }
    }
    std::vector<std::byte> all_gather(std::span<const std::byte> bytes) override {
        if (bytes.size() > most) fail("{} bytes of each rank are too many to gather at once", bytes.size());
        std::vector<std::byte> all(bytes.size() * size_t(size_));
        MPI_Request request;
        auto count = int(bytes.size());
        check(MPI_Iallgather(bytes.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE, MPI_COMM_WORLD, &request),
              "an exchange");
        wait(request, "an exchange");
        return all;
    }
    void barrier() override {
        MPI_Request request;
        check(MPI_Ibarrier(MPI_COMM_WORLD, &request), "waiting");
        wait(request, "waiting");
    }
    void leave() override {
        barrier();
        for (const Peer& peer : peers_) ::close(peer.fd);
        peers_.clear();
        MPI_Finalize();
    }
    void check_peers() const override {
        for (const Peer& peer : peers_) {
            pollfd state{peer.fd, POLLIN, 0};
            if (::poll(&state, 1, 0) > 0 && (state.revents & POLLIN))
                fail(
                    "rank {} of {} (process {}) has ended, and with it the training: go on with --resume from the last "
                    "checkpoint",
                    peer.rank, size_, peer.pid);
        }
    }

private:
    struct Peer {
        int rank;
        pid_t pid;
        int fd;
    };
    static constexpr size_t most = size_t(1) << 28;

    template <class T>
    void reduce(std::span<T> values, MPI_Datatype type) {
        for (size_t done = 0; done < values.size(); done += most) {
            MPI_Request request;
            auto count = int(std::min(most, values.size() - done));
            check(MPI_Iallreduce(MPI_IN_PLACE, values.data() + done, count, type, MPI_SUM, MPI_COMM_WORLD, &request), "a sum");
            wait(request, "a sum");
        }
    }

    // A blocking call would wait for ever for a rank that has ended.
    void wait(MPI_Request& request, const char* what) const {
        using Clock = std::chrono::steady_clock;
        const auto start = Clock::now();
        auto checked = start;
        for (int finished = 0;;) {
            check(MPI_Test(&request, &finished, MPI_STATUS_IGNORE), what);
            if (finished) return;
            const auto now = Clock::now();
            if (now - start > std::chrono::milliseconds(2))
                std::this_thread::sleep_for(std::chrono::microseconds(50));
            else
                ::sched_yield();
            if (now - checked > std::chrono::milliseconds(50)) {
                check_peers();
                checked = now;
            }
        }
    }

    std::vector<Peer> peers_;
};

}  // namespace
}  // namespace vkqat

extern "C" vkqat::Communicator* vkqat_mpi_connect() { return new vkqat::MpiCommunicator; }

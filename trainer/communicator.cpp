#include "trainer/communicator.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

class Alone : public Communicator {
public:
    void all_reduce_sum(std::span<float>) override {}
    void all_reduce_sum(std::span<double>) override {}
    void all_reduce_sum(std::span<int64_t>) override {}
    void broadcast(std::span<std::byte>) override {}
    std::vector<std::byte> all_gather(std::span<const std::byte> bytes) override { return {bytes.begin(), bytes.end()}; }
    void barrier() override {}
    void check_peers() const override {}
    void leave() override {}
};

// How many processes the launcher says that there are; 1 without one.
int launched() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"})
        if (const char* text = std::getenv(name)) return std::max(std::atoi(text), 1);
    return 1;
}

}  // namespace

std::unique_ptr<Communicator> single_rank() { return std::make_unique<Alone>(); }

std::unique_ptr<Communicator> connect_ranks() {
    const int size = launched();
    if (size == 1) return single_rank();
    // Loaded only now: the program starts on machines without MPI. It stays loaded until the process ends.
    void* library = ::dlopen("libvkqat_mpi.so", RTLD_NOW | RTLD_GLOBAL);
    if (!library)
        fail(
            "{} processes were launched, but the program's part for MPI cannot be loaded ({}): install Open MPI (Debian: "
            "openmpi-bin, "
            "and libopenmpi-dev before building), or start the program without a launcher",
            size, ::dlerror());
    auto connect = reinterpret_cast<Communicator* (*)()>(::dlsym(library, "vkqat_mpi_connect"));
    if (!connect) fail("libvkqat_mpi.so belongs to another version of the program: {}", ::dlerror());
    return std::unique_ptr<Communicator>(connect());
}

}  // namespace vkqat
